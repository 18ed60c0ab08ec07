"""What tests of views share: settings, draws, example images, and when two plans give the same views."""

import dataclasses
import itertools

import torch
import torchvision.transforms.v2.functional as tv
from sklearn.datasets import load_digits

from dae_ssl import config
from dae_ssl.training import views

SIZE = 32
ORDERS = list(itertools.permutations(range(4)))
STILL = config.Views(crop=SIZE, flip=0.0, jitter=0.0)
EVERYTHING = config.Views(crop=20, jitter=1.0, blur_kernel=3, solarize=0.5)


def draw(settings=None, *, seed=0, epoch=0, n=4000, view=0, indices=None, size=SIZE):
    indices = torch.arange(n) if indices is None else indices
    return views.draw(settings or config.Views(), seed=seed, epoch=epoch, indices=indices, view=view, size=size)


def in_all_orders(parameters):
    """Return the parameters with the orders of jitter one after another, round and round."""
    n = len(parameters.top)
    return dataclasses.replace(parameters, order=torch.tensor(ORDERS)[torch.arange(n) % 24])


def example_images():
    """Return 48 images: noise, smooth colours, two-colour drawings of digits, grays, one colour only, black, white."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (12, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    coarse = torch.randint(0, 256, (12, 3, 5, 5), generator=generator, dtype=torch.uint8)
    smooth = tv.resize(coarse, [SIZE, SIZE])
    ink = torch.from_numpy(load_digits().images[:12]).float()[:, None] / 16
    ink = tv.resize(ink, [SIZE, SIZE])
    paper, pen = torch.rand(2, 12, 3, 1, 1, generator=generator)
    digits = ((paper * (1 - ink) + pen * ink) * 255).round().to(torch.uint8)
    gray = smooth[:6, :1].expand(-1, 3, -1, -1)
    corners = torch.tensor(list(itertools.product((0, 255), repeat=3)), dtype=torch.uint8)
    flat = corners[[0, 1, 2, 4, 6, 7], :, None, None].expand(-1, -1, SIZE, SIZE)
    return torch.cat([noise, smooth, digits, gray, flat])


def assert_close_but_at_the_threshold(ours, theirs, parameters, settings):
    solarizes = parameters.solarize[:, None, None, None] & (settings.solarize > 0)
    # A value within rounding of the threshold may fall on either side: v on one plan, 1 - v on the other.
    threshold = settings.solarize_threshold
    close = solarizes & ((ours - threshold).abs().minimum((1 - ours - threshold).abs()) < 1e-5)
    assert close.float().mean() < 0.01
    assert ((ours - theirs).abs() * ~close).max() < 1e-5
