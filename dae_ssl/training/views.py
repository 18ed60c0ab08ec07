"""Clean images -> views: `draw` gives each image's augmentation, `render` applies it, batched, on any device.

Both are pure. What is drawn depends on (seed, epoch, image index, view) alone, through a counter-based generator that
gives the same numbers on CPU and GPU, so a view does not depend on its batch, its rank or where a run was resumed.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dae_ssl import config

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The operations of colour jitter in `Parameters.order`, with the numbers of torchvision's ColorJitter."""

BLUR_SIGMA = (0.1, 2.0)
GRAY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the grayscale image (ITU-R 601-2 luma, as torchvision rounds it)."""

_WORD = 0xFFFFFFFF
_VIEWS, _ORDER = 1, 2
"""Second key word of the generator: one stream for each use, so that no two uses share a number."""
_CHUNK_IMAGES = 512
"""Images rendered at a time on a CPU, so that they stay in its cache."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The parameters of one view of each of n images: all (n,) except `order`; `parameters[rows]` selects images."""

    top: Tensor
    """int64, first row of the crop."""
    left: Tensor
    """int64, first column of the crop."""
    flip: Tensor
    """bool, whether the view is mirrored left to right after the resize."""
    brightness: Tensor
    """float32 factor, as are contrast and saturation; 1 changes nothing."""
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    """float32, in turns of the colour circle, within [-0.5, 0.5]; 0 changes nothing."""
    order: Tensor
    """int64 (n, 4), the operations of colour jitter in the order of their application."""
    blur_sigma: Tensor
    """float32, standard deviation of the Gaussian in pixels."""
    solarize: Tensor
    """bool, whether the view is solarized."""

    def __getitem__(self, rows: slice | Tensor) -> "Parameters":
        return Parameters(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})


# ---------------------------------------------------------------------------------- drawing


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return four random 32-bit words for each counter, by Philox-4x32-10.

    `counter` is four int64 tensors of 32-bit words that broadcast, `key` two 32-bit words; returns four int64 tensors
    of 32-bit words. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3 and table 2.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(10):
        (high0, low0), (high2, low2) = _multiply(c0, 0xD2511F53), _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def _multiply(word: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Return the high and the low word of a 64-bit product; int64 wraps around and so holds all of its bits."""
    product = word * by
    return (product >> 32) & _WORD, product & _WORD


def _words(indices: Tensor, *, stream: int, seed: int, epoch: int, view: int, blocks: int) -> Tensor:
    """Return (n, 4 blocks) random words; `indices` is int64 (n,), each below 2**32."""
    for name, value in (("seed", seed), ("epoch", epoch), ("view", view)):
        if not 0 <= value <= _WORD:
            raise ValueError(f"{name}={value}: choose a whole number from 0 to {_WORD}")
    device = indices.device
    epochs, views = (torch.full((), value, dtype=torch.int64, device=device) for value in (epoch, view))
    counter = (indices[:, None], epochs, views, torch.arange(blocks, device=device))
    return torch.stack(philox(counter, (seed, stream)), dim=2).flatten(1)


def _uniform(words: Tensor) -> Tensor:
    """Return float32 multiples of 2**-24 in [0, 1), which are exact and so equal on every device."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def permutation(n: int, *, seed: int, epoch: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the order of n images in an epoch, int64 (n,); the same on every device."""
    words = _words(torch.arange(n, device=device), stream=_ORDER, seed=seed, epoch=epoch, view=0, blocks=1)
    # The key has 63 random bits; images with equal keys stay in the order of their index.
    return torch.argsort((words[:, 0] << 31) | (words[:, 1] >> 1), stable=True)


def draw(settings: config.Views, *, seed: int, epoch: int, indices: Tensor, view: int, size: int) -> Parameters:
    """Draw one view of each image, on the device of `indices`.

    `indices` is int64 (n,), the images' numbers in their data set, `view` the number of the view and `size` the images'
    side in pixels. Frozen views are those of epoch 0. Distributions: Table 1 of the study, with jitter factors uniform
    in [max(0, 1 - 0.8 s), 1 + 0.8 s] and hue in [-0.2 s, 0.2 s] at strength s, as ColorJitter draws them.
    Raises ConfigError if the crop is larger than the image.
    """
    config.require(settings.crop <= size, "views.crop", settings.crop, f"at most the images' side, {size}")
    epoch = 0 if settings.frozen else epoch
    words = _words(indices, stream=_VIEWS, seed=seed, epoch=epoch, view=view, blocks=3)
    unit = _uniform(words)
    s = settings.jitter
    low, high = max(0.0, 1 - 0.8 * s), 1 + 0.8 * s
    orders = torch.tensor(list(itertools.permutations(range(4))), device=indices.device)
    return Parameters(
        top=words[:, 0] * (size - settings.crop + 1) >> 32,
        left=words[:, 1] * (size - settings.crop + 1) >> 32,
        flip=unit[:, 2] < settings.flip,
        brightness=unit[:, 3] * (high - low) + low,
        contrast=unit[:, 4] * (high - low) + low,
        saturation=unit[:, 5] * (high - low) + low,
        hue=(unit[:, 6] * 2 - 1) * (0.2 * s),
        order=orders[words[:, 7] * len(orders) >> 32],
        blur_sigma=unit[:, 8] * (BLUR_SIGMA[1] - BLUR_SIGMA[0]) + BLUR_SIGMA[0],
        solarize=unit[:, 9] < settings.solarize,
    )


# ---------------------------------------------------------------------------------- rendering


Plan = Literal["sorted", "batched", "triton"]


def render(
    images: Tensor,
    parameters: Parameters,
    settings: config.Views,
    *,
    rows: Tensor | None = None,
    plan: Plan | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Apply the parameters of one view: uint8 (n, 3, size, size) -> float32 (n, 3, size, size) in [0, 1].

    In order (Table 1 of the study): crop, resize, flip, colour jitter in each image's own order; then blur and
    solarize if the settings have them. Each operation is that of torchvision.transforms.v2.functional. Three plans give
    the same views, to within rounding: "sorted", on a CPU, works in chunks and applies each operation only where it is
    due; "batched" applies every operation to every image and then selects, which needs no data-dependent shape and no
    synchronisation with the host; "triton", on a GPU, is one kernel that reads bytes and writes views. The default is
    `plan_for(images)`. `rows`, int64 (n,), is the row of the parameters for each image; by default the rows in order.
    Raises ValueError for images of another shape or type, or smaller than the crop or the blur needs.
    """
    size, n = images.shape[-1], len(parameters.top if rows is None else rows)
    if images.dtype != torch.uint8 or images.shape != (n, 3, size, size):
        given = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"images={given}: choose uint8 ({n}, 3, size, size), an image for each row of parameters")
    if settings.crop > size:
        raise ValueError(f"views.crop={settings.crop}: choose at most the images' side, {size}")
    if settings.blur_kernel is not None and settings.blur_kernel // 2 >= size:
        raise ValueError(f"views.blur_kernel={settings.blur_kernel}: choose less than twice the images' side, {size}")
    plan = plan or plan_for(images)
    if plan == "triton":
        return _render_triton(images, parameters, settings, rows, memory_format)
    render_whole = _render_sorted if plan == "sorted" else _render_batched
    views = render_whole(images, parameters if rows is None else parameters[rows], settings)
    return views.contiguous(memory_format=memory_format)


def plan_for(images: Tensor, *, compiling: bool | None = None) -> Plan:
    """Return the plan that suits the images: "triton" in compiled code on a GPU, "sorted" uncompiled on a CPU.

    Triton needs a C compiler, as torch.compile does, but which users who run uncompiled may lack: uncompiled code on a
    GPU, and any without Triton, uses "batched". `compiling` says which is meant; None means the code that runs now.
    """
    if not (torch.compiler.is_compiling() if compiling is None else compiling):
        return "sorted" if images.device.type == "cpu" else "batched"
    return "triton" if images.device.type == "cuda" and _triton_holds(images.shape[-1]) else "batched"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _triton_holds(size: int) -> bool:
    """Return whether Triton is installed and its kernel can hold images of this size."""
    try:
        from dae_ssl.training.render_triton import LARGEST_SIZE
    except ImportError:
        return False
    return size <= LARGEST_SIZE


def _render_triton(
    images: Tensor,
    parameters: Parameters,
    settings: config.Views,
    rows: Tensor | None,
    memory_format: torch.memory_format,
) -> Tensor:
    """Render by the Triton kernel; blur, which needs a pixel's neighbours, and solarize after it follow outside."""
    from dae_ssl.training.render_triton import rendered

    p, blurs = parameters, settings.blur_kernel is not None
    views: Tensor = rendered(
        images, rows, p.top, p.left, p.flip, p.brightness, p.contrast, p.saturation, p.hue, p.order, p.solarize,
        crop=settings.crop,
        jitter=settings.jitter > 0,
        threshold=settings.solarize_threshold if settings.solarize > 0 and not blurs else None,
        channels_last=memory_format == torch.channels_last,
        operations=(BRIGHTNESS, CONTRAST, SATURATION),
        gray_weights=GRAY_WEIGHTS,
    )  # fmt: skip
    if not blurs:
        return views
    views = _finish(views, parameters if rows is None else parameters[rows], settings)
    return views.contiguous(memory_format=memory_format)


def _render_batched(images: Tensor, parameters: Parameters, settings: config.Views) -> Tensor:
    views = _crop_gather(images, parameters, settings)
    if settings.jitter > 0:
        views = _jitter_all(views, parameters)
    return _finish(views, parameters, settings)


def _render_sorted(images: Tensor, parameters: Parameters, settings: config.Views) -> Tensor:
    """Render images in groups whose hue turns at the same step: turning the hue is the most expensive operation."""
    places = (parameters.order == HUE).int().argmax(1).argsort(stable=True)
    views = []
    for rows in torch.split(places, _CHUNK_IMAGES):
        chosen = parameters[rows]
        chunk = _crop_matmul(images.index_select(0, rows), chosen, settings)
        if settings.jitter > 0:
            chunk = _jitter_sorted(chunk, chosen)
        views.append(_finish(chunk, chosen, settings))
    return torch.cat(views).index_select(0, places.argsort())


def _sources(parameters: Parameters, crop: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the position in the image of each row and each column of the view: two float32 (n, size), in pixels.

    Bilinear resizing with half-pixel centres, held at the crop's border; a flip reverses the columns.
    """
    pixel = torch.arange(size, dtype=torch.float32, device=parameters.top.device)
    source = ((pixel + 0.5) * (crop / size) - 0.5).clamp(0, crop - 1)
    columns = torch.where(parameters.flip[:, None], source.flip(0), source)
    return source + parameters.top[:, None], columns + parameters.left[:, None]


def _crop_gather(images: Tensor, parameters: Parameters, settings: config.Views) -> Tensor:
    """Crop, resize and flip by interpolating each pixel between four neighbours; compiled, this is one kernel."""
    n, channels, size, _ = images.shape
    image = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    y, x = _sources(parameters, settings.crop, size)
    y, x = y[:, None, :, None], x[:, None, None, :]
    top, left = y.long(), x.long()
    right = (left + 1).clamp(max=size - 1)
    upper, lower = (
        torch.lerp(images[image, channel, row, left] / 255, images[image, channel, row, right] / 255, x - left)
        for row in (top, (top + 1).clamp(max=size - 1))
    )
    return torch.lerp(upper, lower, y - top)


def _crop_matmul(images: Tensor, parameters: Parameters, settings: config.Views) -> Tensor:
    """Crop, resize and flip: whole rows are interpolated between two rows, columns by a matrix product.

    Gathering single pixels is slow on a CPU; copying whole rows is fast.
    """
    n, channels, size, _ = images.shape
    y, x = _sources(parameters, settings.crop, size)
    top, first_row = y.long(), torch.arange(0, n * channels * size, size).view(n, channels, 1)
    rows = (images / 255).view(-1, size)
    upper, lower = (
        rows.index_select(0, (first_row + row[:, None]).flatten()).view(images.shape)
        for row in (top, (top + 1).clamp(max=size - 1))
    )
    resized = torch.lerp(upper, lower, (y - top)[:, None, :, None])
    # A column's weights are a hat function around its source: 1 - |distance|, and 0 from one pixel on.
    weights = (torch.arange(size)[:, None] - x[:, None, :]).abs_().neg_().add_(1).clamp_(min=0)
    return (resized.view(n, channels * size, size) @ weights).view(images.shape)


def _jitter_all(views: Tensor, parameters: Parameters) -> Tensor:
    """Jitter the colours of all images at once: each step computes both blend and turn, and selects the one due."""
    weights = _weights(parameters)
    for step in range(4):
        due = (parameters.order[:, step] == HUE)[:, None, None, None]
        views = torch.where(due, _turn_hue(views, parameters.hue), _blend(views, weights[:, step]))
    return views


def _jitter_sorted(views: Tensor, parameters: Parameters) -> Tensor:
    """Jitter the colours of images sorted by the step at which their hue turns, computing only what is due."""
    counts = (parameters.order == HUE).sum(0).tolist()
    parts = zip(*(torch.split(of, counts) for of in (views, parameters.hue, _weights(parameters))), strict=True)
    jittered = []
    for turn_step, (part, turns, weights) in enumerate(parts):
        now = part
        for step in range(4):
            now = _turn_hue(now, turns) if step == turn_step else _blend(now, weights[:, step])
        jittered.append(now)
    return torch.cat(jittered)


def _weights(parameters: Parameters) -> Tensor:
    """Return how much of the image, its gray values and their mean each step keeps: (n, 4 steps, 3).

    Brightness blends with black, contrast with the mean gray value, saturation with the gray image.
    """
    order, factors = parameters.order, (parameters.brightness, parameters.contrast, parameters.saturation)
    own = torch.stack((*factors, torch.ones_like(parameters.hue)), dim=1).gather(1, order)
    return torch.stack((own, (1 - own) * (order == SATURATION), (1 - own) * (order == CONTRAST)), dim=2)


def _blend(views: Tensor, weights: Tensor) -> Tensor:
    """Blend each image with its gray values and their mean, weights (n, 3), and hold the result in [0, 1]."""
    own, gray, mean = weights[:, :, None, None, None].unbind(1)
    red, green, blue = torch.split(views, 1, dim=1)
    grays = (red * GRAY_WEIGHTS[0]).add_(green, alpha=GRAY_WEIGHTS[1]).add_(blue, alpha=GRAY_WEIGHTS[2])
    means = grays.mean(dim=(1, 2, 3), keepdim=True).mul_(mean)
    return torch.addcmul(grays.mul_(gray).add_(means), views, own).clamp_(0, 1)


def _turn_hue(views: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of each image, (n,) in turns, keeping HSV saturation and value.

    Without branches: with m the least and d the spread of the channels, 1 + (g + b - r - m) / d sixths of a turn
    separate a pixel's hue from red, towards green where g > b and towards blue where not. A turned channel is then
    max - d t, with t a trapezoid of the distance between the hue and the channel's opposite colour, "HSV to RGB
    alternative" in Wikipedia's "HSL and HSV".
    """
    red, green, blue = views.unbind(1)
    highest, lowest = torch.maximum(red, green).maximum(blue), torch.minimum(red, green).minimum(blue)
    spread = highest - lowest
    # A gray pixel has no hue; any value will do, since it is multiplied by the spread of 0.
    from_red = (green + blue).sub_(red).sub_(lowest).div_(spread.clamp(min=1e-12)).add_(1).mul_(1 / 6)
    hue = from_red.copysign_(green - blue)
    opposite = 1 / 2 - torch.arange(3, device=views.device) / 3  # cyan, magenta, yellow
    distance = hue[:, None] + (turns[:, None] + opposite)[:, :, None, None]
    distance = distance.sub_(distance.round()).abs_()
    return torch.addcmul(highest[:, None], distance.mul_(-6).add_(2).clamp_(0, 1), spread[:, None], value=-1)


def _finish(views: Tensor, parameters: Parameters, settings: config.Views) -> Tensor:
    if settings.blur_kernel is not None:
        views = _blur(views, parameters.blur_sigma, settings.blur_kernel)
    if settings.solarize > 0:
        due = parameters.solarize[:, None, None, None] & (views >= settings.solarize_threshold)
        views = torch.where(due, 1 - views, views)
    return views


def _blur(views: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of each image with its own sigma, columns and then rows, mirrored at the border."""
    reach, size = kernel // 2, views.shape[-1]
    offset = torch.arange(-reach, reach + 1, dtype=torch.float32, device=views.device)
    weights = torch.softmax(-((offset / sigma[:, None]) ** 2) / 2, dim=1)[:, :, None, None, None]
    padded = F.pad(views, (reach, reach, 0, 0), mode="reflect")
    views = sum((padded[..., i : i + size] * weights[:, i] for i in range(kernel)), torch.zeros_like(views))
    padded = F.pad(views, (0, 0, reach, reach), mode="reflect")
    views = sum((padded[..., i : i + size, :] * weights[:, i] for i in range(kernel)), torch.zeros_like(views))
    return views.clamp_(0, 1)  # the weights' sum may round to just above 1
