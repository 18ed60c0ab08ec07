"""Compare this project's training steps with the loop that most people write, and with kornia's views.

Claim: at least 2 times as many images per second as the plain loop, 1.5 times with kornia's views in it, on a CPU with
float32. A step costs 600 MFLOP an image whoever takes it, and ours runs at about 60 % of what two AVX2 cores multiply
and add at their base clock. All sides train the DAE with the L2 embedding loss and alpha 1 (Table 2 of the study) on
synthetic uint8 images, with the same networks, augmentation, losses and Adam; a step is making both views, forward,
backward and update.

- dae_ssl: images and views on the device, both views in one batch, channels last, fused Adam, and freed memory kept for
  the next step; compiled on CUDA.
- plain loop: a DataLoader with two workers, torchvision's transforms image by image, the networks called once per view,
  contiguous float32, torch.optim.Adam as it comes.
- plain loop, kornia's views: the same, with kornia's batched augmentations on the device in place of the DataLoader.

Each side lives in a process of its own, for how a process allocates memory cannot be changed back, and with as many
threads as there are cores; they take turns. A turn of the DataLoader starts and ends with nothing prefetched, so that
its workers never use another side's time.

    python -m benchmarks.pretrain [--batch 512] [--steps 2] [--rounds 3] [--precision fp32]
"""

import argparse
import contextlib
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import compare, show
from benchmarks.views import JITTER, SETTINGS, SIZE, TwoViews
from dae_ssl.config import Cell, Optimisation
from dae_ssl.distributed import world
from dae_ssl.replay import own_stream
from dae_ssl.training.methods.siamese import DenoisingAutoencoder
from dae_ssl.training.pretrain import start
from dae_ssl.training.step import Step

METHOD = DenoisingAutoencoder(embedding="l2", alpha=1.0)
CLAIMS = {"plain loop": 2.0, "plain loop, kornia's views": 1.5}


@dataclass(frozen=True)
class Options:
    """The images per step, the steps in a turn, and the precision."""

    batch: int
    steps: int
    precision: str

    def images(self) -> Tensor:
        """Return the images of one turn, uint8 noise (steps * batch, 3, 32, 32), which takes as long as pictures."""
        size = (self.steps * self.batch, 3, SIZE, SIZE)
        return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def cell(self) -> Cell:
        """Return the cell that all sides train."""
        optimisation = Optimisation(batch_size=self.batch, schedule="constant")
        return Cell(method=METHOD, views=SETTINGS, optimisation=optimisation, precision=self.precision)


class Listener:
    """A watch that prints why the step is not computed in the usual way."""

    def event(self, kind: str, text: str) -> None:
        print(f"{kind}: {text}", flush=True)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Ignore how the step is computed; `event` prints what is worth a line."""


@contextlib.contextmanager
def ours(options: Options) -> Iterator[Callable[[], None]]:
    """Yield the function that computes a turn of this project's steps."""
    cell, epochs = options.cell(), itertools.count()
    with world() as single, own_stream(single.device):
        images, training = options.images().to(single.device), start(cell, METHOD, single)
        compiler = "inductor" if single.device.type == "cuda" else None
        step = Step(cell, METHOD, training, images, slice(0, options.batch), single, Listener(), compiler)

        def work() -> None:
            training.epoch, training.step = next(epochs), 0
            step.begin()
            for _ in range(options.steps):
                step()
            training.sums["loss"].item()  # on a GPU this waits

        yield work


class CleanAndTwoViews(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Data set of clean images, which a denoising autoencoder reconstructs, each with two torchvision views."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.views = images, TwoViews(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.images[index] / 255, *self.views[index]


def with_loader(options: Options, device: torch.device) -> Callable[[], Iterable[list[Tensor]]]:
    """Return a function that yields a turn's batches, clean images and two views, from worker processes."""
    data = CleanAndTwoViews(options.images())
    loader = DataLoader(
        data, options.batch, shuffle=True, num_workers=2, persistent_workers=True, pin_memory=device.type == "cuda"
    )
    return lambda: ([images.to(device, non_blocking=True) for images in batch] for batch in loader)


def with_kornia(options: Options, device: torch.device) -> Callable[[], Iterable[list[Tensor]]]:
    """Return a function that yields a turn's batches, clean images and two views made by kornia on the device."""
    import kornia.augmentation as K

    images = options.images().to(device)
    transform = nn.Sequential(
        K.RandomCrop((SETTINGS.crop, SETTINGS.crop)),
        K.Resize((SIZE, SIZE), align_corners=False),
        K.RandomHorizontalFlip(SETTINGS.flip),
        K.ColorJitter(*JITTER, p=1.0),
    )

    def batches() -> Iterator[list[Tensor]]:
        for rows in torch.randperm(len(images), device=device).split(options.batch):
            clean = images[rows] / 255
            with torch.no_grad():
                views = [transform(clean) for _ in range(2)]
            yield [clean, *views]

    return batches


@contextlib.contextmanager
def plain(
    options: Options, source: Callable[..., Callable[[], Iterable[list[Tensor]]]]
) -> Iterator[Callable[[], None]]:
    """Yield the function that computes a turn of the plain loop's steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tf32 = options.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    cell, batches = options.cell(), source(options, device)
    networks = METHOD.networks(cell.networks, cell.seed).to(device)
    model = nn.Sequential(networks["encoder"], networks["projector"])
    optimizer = torch.optim.Adam(networks.parameters(), lr=cell.optimisation.learning_rate)

    def work() -> None:
        for clean, view1, view2 in batches():
            with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                z1, z2 = model(view1), model(view2)
                x1, x2 = networks["decoder"](z1), networks["decoder"](z2)
                loss = F.mse_loss(x1, clean) + F.mse_loss(x2, clean) + METHOD.alpha / z1.shape[1] * F.mse_loss(z1, z2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # on a GPU this waits

    yield work


def plain_with_loader(options: Options) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """Yield the plain loop over a DataLoader."""
    return plain(options, with_loader)


def plain_with_kornia(options: Options) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """Yield the plain loop over kornia's views."""
    return plain(options, with_kornia)


SIDES = {"dae_ssl": ours, "plain loop": plain_with_loader, "plain loop, kornia's views": plain_with_kornia}


def serve(name: str, options: Options, connection: Connection) -> None:
    """Compute a turn of one side for every message, and answer it, until the other end closes."""
    with SIDES[name](options) as work, contextlib.suppress(EOFError):
        while True:
            connection.recv()
            work()
            connection.send(options.steps * options.batch)


@contextlib.contextmanager
def elsewhere(name: str, options: Options) -> Iterator[Callable[[], int]]:
    """Yield a function that lets a separate process compute a turn, and returns the number of its images."""
    context = multiprocessing.get_context("spawn")
    connection, far_end = context.Pipe()
    process = context.Process(target=serve, args=(name, options, far_end))
    process.start()
    far_end.close()

    def work() -> int:
        connection.send("turn")
        images: int = connection.recv()
        return images

    try:
        yield work
    finally:
        connection.close()
        process.join()


def main() -> None:
    """Measure on the GPU if there is one, and otherwise on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    given = parser.parse_args()
    options = Options(given.batch, given.steps, given.precision)
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(elsewhere(name, options)) for name in SIDES}
        comparisons = compare(sides, rounds=given.rounds)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    title = f"training steps, DAE with L2, batches of {options.batch} synthetic images, {options.precision}, {device}"
    show(title, "images", comparisons, at_least=CLAIMS)


if __name__ == "__main__":
    main()
