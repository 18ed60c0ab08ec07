"""Arrays -> how well reconstructions match the view they were made from and the clean image: Figure 5 in numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_CONSTANTS = 0.01**2, 0.03**2
"""The constants of Wang, Bovik, Sheikh & Simoncelli 2004, section III.C, for values in [0, 1]."""
REACH_PIXELS = 4
"""The largest shift that `offset` tries; a crop of 28 of 32 pixels moves an object by at most 2 and enlarges it."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """How well images match others: means over the images."""

    psnr: float
    """Peak signal-to-noise ratio in dB."""
    ssim: float
    """Structural similarity, 1 for equal images."""
    offset: float
    """Shift in pixels at which an image and the other, or the other's mirror image, correlate best; 0 if centred."""
    sharpness: float
    """Mean difference of neighbouring pixels, divided by that of the other images; below 1 is blurrier."""


def match(images: Tensor, others: Tensor) -> Match:
    """Compare images with as many others, both float (n, channels, height, width) in [0, 1] on one device.

    Raises ValueError for shapes that cannot be compared.
    """
    if images.shape != others.shape or images.ndim != 4 or not len(images):
        shapes = f"images {tuple(images.shape)} and {tuple(others.shape)}"
        raise ValueError(f"{shapes}: give two (n, channels, height, width)")
    return Match(
        psnr=_mean(psnr(images, others)),
        ssim=_mean(ssim(images, others)),
        offset=_mean(offset(images, others)),
        sharpness=_mean(_roughness(images)) / max(_mean(_roughness(others)), 1e-12),
    )


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Return each image's peak signal-to-noise ratio in dB, (n,); equal images have at most 120."""
    errors = (images.double() - others.double()).square().mean((1, 2, 3))
    return -10 * errors.clamp_min(1e-12).log10()


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Return each image's structural similarity (Wang et al. 2004, equation 13), (n,), the mean over its channels.

    The window is a Gaussian of 11 pixels with sigma 1.5, at every position where it lies wholly inside the image.
    """
    x, y = images.double(), others.double()
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    variance_x, variance_y = _smoothed(x * x) - mean_x**2, _smoothed(y * y) - mean_y**2
    covariance = _smoothed(x * y) - mean_x * mean_y
    one, two = SSIM_CONSTANTS
    similarity = (2 * mean_x * mean_y + one) * (2 * covariance + two)
    similarity /= (mean_x**2 + mean_y**2 + one) * (variance_x + variance_y + two)
    return similarity.mean((1, 2, 3))


def offset(images: Tensor, others: Tensor, *, reach: int = REACH_PIXELS) -> Tensor:
    """Return how many pixels each image lies from the other, (n,).

    It is the length of the shift, of at most `reach` pixels in each direction and cyclic at the border, at which the
    image correlates best with the other one, as it is or mirrored left to right.
    """
    shifts = torch.arange(-reach, reach + 1, device=images.device)
    best = []
    for other in (others, others.flip(3)):
        spectra = (torch.fft.rfft2(of.double() - of.double().mean((1, 2, 3), keepdim=True)) for of in (images, other))
        one, two = spectra
        correlation = torch.fft.irfft2(one * two.conj(), s=images.shape[2:]).sum(1)
        best.append(correlation[:, shifts[:, None], shifts[None, :]].flatten(1).max(1))
    values, places = (torch.stack(part) for part in zip(*best, strict=True))
    place = places.gather(0, values.argmax(0, keepdim=True))[0]
    down, right = shifts[place // len(shifts)], shifts[place % len(shifts)]
    return torch.hypot(down.double(), right.double())


def _roughness(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, (n,)."""
    down, right = images.double().diff(dim=2).abs(), images.double().diff(dim=3).abs()
    return (down.mean((1, 2, 3)) + right.mean((1, 2, 3))) / 2


def _smoothed(images: Tensor) -> Tensor:
    window = min(SSIM_WINDOW, *images.shape[2:])
    places = torch.arange(window, dtype=images.dtype, device=images.device) - (window - 1) / 2
    weights = torch.softmax(-(places**2) / (2 * SSIM_SIGMA**2), 0)
    flat = images.flatten(0, 1)[:, None]
    return functional.conv2d(functional.conv2d(flat, weights[None, None, None]), weights[None, None, :, None]).view(
        *images.shape[:2], images.shape[2] - window + 1, images.shape[3] - window + 1
    )


def _mean(values: Tensor) -> float:
    return float(values.mean())
