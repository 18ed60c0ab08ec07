"""How well reconstructions match: against a published implementation, loops, and images with a known answer."""

import math

import kornia.metrics
import pytest
import torch
from torch import Tensor

from dae_ssl.evaluation.reconstruction import match, offset, psnr, ssim


def images(count: int = 3, side: int = 32, seed: int = 0) -> Tensor:
    """Return smooth random images, float32 in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 4, side // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def test_psnr_is_ten_logarithms_of_the_squared_peak_over_the_mean_squared_error() -> None:
    one, other = images(), images(seed=1)
    for value, a, b in zip(psnr(one, other).tolist(), one.tolist(), other.tolist(), strict=True):
        pixels = [(x - y) ** 2 for p, q in zip(a, b, strict=True) for r, s in zip(p, q, strict=True)
                  for x, y in zip(r, s, strict=True)]  # fmt: skip
        assert value == pytest.approx(10 * math.log10(1 / (sum(pixels) / len(pixels))), rel=1e-6)
    assert psnr(one, one).tolist() == [120.0] * 3


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_equals_a_published_implementation_away_from_the_border(noise: float) -> None:
    one = images()
    other = (one + noise * torch.randn(one.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    expected = kornia.metrics.ssim(one.double(), other.double(), window_size=11, padding="valid").mean((1, 2, 3))
    torch.testing.assert_close(ssim(one, other), expected, rtol=1e-5, atol=1e-6)


def test_equal_images_match_fully() -> None:
    found = match(images(), images())
    assert (found.ssim, found.offset, found.sharpness) == pytest.approx((1, 0, 1))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (-1, 3), (4, -4)])
def test_offset_is_the_length_of_the_shift_also_of_a_mirror_image(down: int, right: int, mirrored: bool) -> None:
    one = images(seed=5)
    moved = one.roll((down, right), (2, 3))
    other = one.flip(3) if mirrored else one
    assert offset(moved, other).tolist() == pytest.approx([math.hypot(down, right)] * 3)


def test_offset_is_what_trying_every_shift_finds() -> None:
    one, other = images(seed=7), images(seed=8)
    for a, b, found in zip(one, other, offset(one, other), strict=True):
        best = (-math.inf, 0.0)
        for candidate in (b, b.flip(2)):
            for down in range(-4, 5):
                for right in range(-4, 5):
                    moved = candidate.roll((down, right), (1, 2))
                    likeness = ((a - a.mean()) * (moved - moved.mean())).sum().item()
                    best = max(best, (likeness, math.hypot(down, right)))
        assert found.item() == pytest.approx(best[1])


def test_hazier_images_are_less_sharp_whatever_their_match() -> None:
    one = images()
    hazy = torch.nn.functional.avg_pool2d(one, 5, stride=1, padding=2, count_include_pad=False)
    assert match(hazy, one).sharpness < 0.9
    assert match(one, hazy).sharpness > 1.1


def test_images_that_cannot_be_compared_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"give two \(n, channels, height, width\)"):
        match(images(2), images(3))
