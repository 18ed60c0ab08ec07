"""Views as one Triton kernel: a program makes one view of one image, from its bytes to its pixels, in registers.

It reads the image's bytes and a row of parameters and writes the view: 15 KB for an image of 32 x 32, where separate
operations move 330 KB. Only `dae_ssl.training.views.render` uses it, as Triton is not installed on every machine.
"""

# Types within a kernel are Triton's to infer.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_SIZE = 128
"""The side, in pixels, of the largest image that a program's registers hold."""
PIXELS_A_WARP = 128

# A batch's parameters begin at any address, and compiling the kernel for each alignment would gain nothing.
_PARAMETERS = ["rows", "top", "left", "flip", "brightness", "contrast", "saturation", "hue", "order", "solarize"]


@triton.jit
def _bytes(row_start, column, IMAGE_PIXELS: tl.constexpr):
    """Return red, green and blue at a column of each pixel's row, as floats from 0 to 255."""
    at = row_start + column
    red = tl.load(at).to(tl.float32)
    green = tl.load(at + IMAGE_PIXELS).to(tl.float32)
    blue = tl.load(at + 2 * IMAGE_PIXELS).to(tl.float32)
    return red, green, blue


@triton.jit
def _between(a, b, weight):
    """Return the value at `weight` of the way from a to b: exactly a at 0 and, where they are equal, at any."""
    return a + weight * (b - a)


@triton.jit
def _cropped(image, top, left, flip, pixel, CROP: tl.constexpr, SIZE: tl.constexpr):
    """Return red, green and blue of each pixel of the view, in [0, 1]: crop, bilinear resize and flip.

    Half-pixel centres, held at the crop's border.
    """
    row, column = pixel // SIZE, pixel % SIZE
    column = tl.where(flip, SIZE - 1 - column, column)
    y = tl.clamp((row + 0.5) * (CROP / SIZE) - 0.5, 0.0, CROP - 1.0)
    x = tl.clamp((column + 0.5) * (CROP / SIZE) - 0.5, 0.0, CROP - 1.0)
    upper, before = y.to(tl.int32), x.to(tl.int32)
    down, right = y - upper, x - before
    # Beyond the crop's last row and column nothing is weighed, but the address must exist.
    lower, after = tl.minimum(upper + 1, CROP - 1) + top, tl.minimum(before + 1, CROP - 1) + left
    upper, before = upper + top, before + left
    pixels: tl.constexpr = SIZE * SIZE
    red00, green00, blue00 = _bytes(image + upper * SIZE, before, pixels)
    red01, green01, blue01 = _bytes(image + upper * SIZE, after, pixels)
    red10, green10, blue10 = _bytes(image + lower * SIZE, before, pixels)
    red11, green11, blue11 = _bytes(image + lower * SIZE, after, pixels)
    red = _between(_between(red00, red01, right), _between(red10, red11, right), down)
    green = _between(_between(green00, green01, right), _between(green10, green11, right), down)
    blue = _between(_between(blue00, blue01, right), _between(blue10, blue11, right), down)
    return tl.div_rn(red, 255.0), tl.div_rn(green, 255.0), tl.div_rn(blue, 255.0)


@triton.jit
def _blended(red, green, blue, factor, other):
    """Return `factor` of the colours and the rest of `other`, held in [0, 1]."""
    rest = (1 - factor) * other
    red = tl.clamp(factor * red + rest, 0.0, 1.0)
    green = tl.clamp(factor * green + rest, 0.0, 1.0)
    blue = tl.clamp(factor * blue + rest, 0.0, 1.0)
    return red, green, blue


@triton.jit
def _channel(highest, spread, place):
    """Return a channel whose opposite colour is `place` turns away from the hue."""
    distance = tl.abs(place - tl.floor(place + 0.5))
    return highest - spread * tl.clamp(2 - 6 * distance, 0.0, 1.0)


@triton.jit
def _turned(red, green, blue, turns):
    """Return the colours with their hue turned, HSV saturation and value kept; the formula is `views._turn_hue`'s."""
    highest = tl.maximum(tl.maximum(red, green), blue)
    lowest = tl.minimum(tl.minimum(red, green), blue)
    spread = highest - lowest
    from_red = tl.abs((green + blue - red - lowest) / tl.maximum(spread, 1e-12) + 1) / 6
    hue = tl.where(green >= blue, from_red, -from_red) + turns
    red = _channel(highest, spread, hue + 1 / 2)
    green = _channel(highest, spread, hue + 1 / 6)
    blue = _channel(highest, spread, hue - 1 / 6)
    return red, green, blue


@triton.jit(do_not_specialize_on_alignment=["images", *_PARAMETERS])
def view_kernel(
    images, views, rows, top, left, flip, brightness, contrast, saturation, hue, order, solarize,
    CROP: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    CHANNEL_STRIDE: tl.constexpr, PIXEL_STRIDE: tl.constexpr,
    JITTER: tl.constexpr, SOLARIZE: tl.constexpr, THRESHOLD: tl.constexpr,
    BRIGHTNESS: tl.constexpr, CONTRAST: tl.constexpr, SATURATION: tl.constexpr,
    RED: tl.constexpr, GREEN: tl.constexpr, BLUE: tl.constexpr,
):  # fmt: skip
    """Make the view of the image whose number is the program's; BLOCK is the power of two that holds its pixels."""
    image = tl.program_id(0).to(tl.int64)
    row = image
    if rows is not None:
        row = tl.load(rows + image)
    start = image * (3 * SIZE * SIZE)
    pixel = tl.arange(0, BLOCK)
    inside = pixel < SIZE * SIZE
    place = (tl.load(top + row).to(tl.int32), tl.load(left + row).to(tl.int32), tl.load(flip + row) != 0)
    # Pixels beyond the image, where its size is no power of two, repeat its first.
    red, green, blue = _cropped(images + start, place[0], place[1], place[2], tl.where(inside, pixel, 0), CROP, SIZE)
    if JITTER:
        for step in range(4):
            operation = tl.load(order + row * 4 + step)
            if operation == BRIGHTNESS:
                red, green, blue = _blended(red, green, blue, tl.load(brightness + row), 0.0)
            elif operation == CONTRAST:
                gray = red * RED + green * GREEN + blue * BLUE
                mean = tl.sum(tl.where(inside, gray, 0.0), axis=0) / (SIZE * SIZE)
                red, green, blue = _blended(red, green, blue, tl.load(contrast + row), mean)
            elif operation == SATURATION:
                gray = red * RED + green * GREEN + blue * BLUE
                red, green, blue = _blended(red, green, blue, tl.load(saturation + row), gray)
            else:
                red, green, blue = _turned(red, green, blue, tl.load(hue + row))
    if SOLARIZE:
        due = tl.load(solarize + row) != 0
        red = tl.where(due & (red >= THRESHOLD), 1 - red, red)
        green = tl.where(due & (green >= THRESHOLD), 1 - green, green)
        blue = tl.where(due & (blue >= THRESHOLD), 1 - blue, blue)
    at = views + start + pixel * PIXEL_STRIDE
    tl.store(at, red, mask=inside)
    tl.store(at + CHANNEL_STRIDE, green, mask=inside)
    tl.store(at + 2 * CHANNEL_STRIDE, blue, mask=inside)


@torch.library.custom_op("dae_ssl::rendered", mutates_args=())
def rendered(
    images: Tensor,
    rows: Tensor | None,
    top: Tensor,
    left: Tensor,
    flip: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor,
    order: Tensor,
    solarize: Tensor,
    *,
    crop: int,
    jitter: bool,
    threshold: float | None,
    channels_last: bool,
    operations: Sequence[int],
    gray_weights: Sequence[float],
) -> Tensor:
    """Return a view of each image: uint8 (n, 3, size, size) -> float32 (n, 3, size, size), one launch.

    `rows` and the tensors after it are as in `views.render` and `views.Parameters`. `jitter` is whether colours are
    jittered at all, `threshold` the value from which solarized images are inverted (None if there are none), and
    `channels_last` the memory format of the view. `operations` are the numbers of brightness, contrast and saturation
    in `order`, `gray_weights` the weights of red, green and blue. It is a custom operation, which torch.compile does
    not look into; it has no gradient, since images are data.
    """
    size = images.shape[-1]
    made = _empty(images, channels_last)
    block = triton.next_power_of_2(size * size)
    parameters = (top, left, flip, brightness, contrast, saturation, hue, order, solarize)
    with torch.cuda.device_of(images):
        # Products and sums are not fused, so that values depend neither on Triton's default nor on its interpreter.
        view_kernel[(len(images),)](
            images.contiguous(), made, rows, *(parameter.contiguous() for parameter in parameters),
            CROP=crop, SIZE=size, BLOCK=block,
            CHANNEL_STRIDE=made.stride(1), PIXEL_STRIDE=made.stride(3),
            JITTER=jitter, SOLARIZE=threshold is not None, THRESHOLD=threshold or 0.0,
            BRIGHTNESS=operations[0], CONTRAST=operations[1], SATURATION=operations[2],
            RED=gray_weights[0], GREEN=gray_weights[1], BLUE=gray_weights[2],
            num_warps=warps(block), enable_fp_fusion=False,
        )  # fmt: skip
    return made


@rendered.register_fake
def _fake_rendered(images: Tensor, *_parameters: Tensor | None, channels_last: bool, **_settings: object) -> Tensor:
    return _empty(images, channels_last)


def _empty(images: Tensor, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(images.shape, dtype=torch.float32, device=images.device, memory_format=layout)


def warps(block: int) -> int:
    """Return how many warps share an image of `block` pixels: a thread has four pixels of 32 x 32 images."""
    return min(max(block // PIXELS_A_WARP, 1), 32)
