"""Compare the views per second of `dae_ssl.training.views`, torchvision by image, and kornia by batch.

Claim: on a CPU, at least 10 times as many views per second as torchvision and 2.5 times kornia. All sides make
two views of each image with the study's augmentation (Table 1: crop 28, resize to 32, flip 0.8, jitter 0.2, 0.2, 0.2
and 0.05), and end with float32 batches on the device. Ours pays for drawing too.

    python -m benchmarks.views [--batch 512] [--rounds 5]
"""

import argparse
import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.timing import compare, show
from dae_ssl import config
from dae_ssl.training import views

SETTINGS = config.Views()
SIZE = 32
JITTER = (0.2, 0.2, 0.2, 0.05)
CLAIMS = {"kornia": 2.5, "torchvision, 2 workers": 10.0}


class TwoViews(Dataset[tuple[Tensor, Tensor]]):
    """Data set of two torchvision views of each image, as most training scripts make them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.transform = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomCrop(SETTINGS.crop),
                v2.Resize(SIZE),
                v2.RandomHorizontalFlip(SETTINGS.flip),
                v2.ColorJitter(*JITTER),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return self.transform(image), self.transform(image)


def ours(images: Tensor, batch: int, plan: views.Plan | None = None) -> Callable[[], int]:
    """Return a side that makes both views of all images, batch by batch, compiled where they are on a GPU."""
    render = torch.compile(views.render) if images.is_cuda else views.render
    epochs = itertools.count()

    def work() -> int:
        epoch = next(epochs)
        order = views.permutation(len(images), seed=0, epoch=epoch, device=images.device)
        drawn = [views.draw(SETTINGS, seed=0, epoch=epoch, indices=order, view=view, size=SIZE) for view in (1, 2)]
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            clean = images.index_select(0, order[rows])
            for parameters in drawn:
                render(clean, parameters[rows], SETTINGS, plan=plan)
        return _finished(2 * len(images), images)

    return work


def with_kornia(images: Tensor, batch: int) -> Callable[[], int]:
    """Return a side that makes both views of all images with kornia's batched augmentations, each image its own."""
    import kornia.augmentation as K

    transform = torch.nn.Sequential(
        K.RandomCrop((SETTINGS.crop, SETTINGS.crop)),
        K.Resize((SIZE, SIZE), align_corners=False),
        K.RandomHorizontalFlip(SETTINGS.flip),
        K.ColorJitter(*JITTER, p=1.0),
    )

    def work() -> int:
        with torch.no_grad():
            for indices in torch.randperm(len(images), device=images.device).split(batch):
                clean = images.index_select(0, indices) / 255
                for _ in (1, 2):
                    transform(clean)
        return _finished(2 * len(images), images)

    return work


def with_torchvision(images: Tensor, batch: int) -> Callable[[], int]:
    """Return a side that makes both views of all images in a loader with two worker processes.

    It takes the whole set each time, so that no worker makes views outside the time that is measured.
    """
    loader = DataLoader(
        TwoViews(images.cpu()), batch, shuffle=True, num_workers=2, persistent_workers=True, pin_memory=images.is_cuda
    )

    def work() -> int:
        for both in loader:
            for view in both:
                view.to(images.device)
        return _finished(2 * len(images), images)

    return work


def _finished(items: int, images: Tensor) -> int:
    if images.is_cuda:
        torch.cuda.synchronize()
    return items


def main() -> None:
    """Measure on the GPU if there is one, and otherwise on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4 * options.batch, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    images = images.to(device)
    sides = {
        "dae_ssl": ours(images, options.batch),
        "kornia": with_kornia(images, options.batch),
        "torchvision, 2 workers": with_torchvision(images, options.batch),
    }
    comparisons = compare(sides, rounds=options.rounds)
    show(
        f"two views, batches of {options.batch}, {device.type}",
        "views",
        comparisons,
        at_least=CLAIMS,
    )


if __name__ == "__main__":
    main()
