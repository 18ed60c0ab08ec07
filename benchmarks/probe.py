"""Compare the linear probe with a plain DataLoader loop, and HDF5 features with one raw file.

    python -m benchmarks.probe                   50,000 images, 8192-d: about 5 GB of memory, 1.6 GB of disk
    python -m benchmarks.probe --images 10000    a quick look

The probe. Both sides train on the same float32 tensors in memory, a few epochs a round instead of 200: an epoch is
like any other. The plain side is what one would write: TensorDataset, DataLoader with shuffle and default collate, no
worker processes, torch.nn.Linear, torch.optim.Adam. "Fused Adam, whole batches" is the best of plain choices: a
`BatchSampler`, so that the data set is indexed by whole batches and nothing is collated image by image.

What limits ours on a CPU, counted for one learner, n images, d features, 10 classes: 2 products of 2 x 10 n d
operations each, and n d x 4 bytes read once from memory (the second product finds its block of rows in the cache). That
is 10 operations a byte: two cores that reach 60 GFLOP/s on such narrow products would need 6 GB/s, so the products are
the limit, then memory. With several learners the bytes stay and the operations grow, on wider and so faster products; a
rate there counts an image once for each learner.

The file. Reading what `features.write` wrote against the same bytes in one raw file, by `numpy.fromfile` and by one
`readinto`, all from the page cache.
"""

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from benchmarks import timing
from dae_ssl import config
from dae_ssl.evaluation import features, probe

CLASSES = 10
Pairs = DataLoader[tuple[Tensor, ...]]
"""Makes batches of inputs and labels from a TensorDataset."""


def main() -> None:
    """Measure both claims and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the probe in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="folder of the files; a temporary one by default")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(options.images, options.features, generator=generator)
    y = torch.randint(CLASSES, (options.images,), generator=generator)
    measure_probe(x, y, options.epochs, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure_file(x, y, Path(folder), options.rounds)


def measure_probe(x: Tensor, y: Tensor, epochs: int, rounds: int) -> None:
    """Compare one learner, then 3 learning rates x 3 seeds in one pass, with the plain loops."""
    plain = {
        "DataLoader, nn.Linear, Adam": lambda: plain_probe(plain_batches(x, y), epochs, fused=False),
        "fused Adam, whole batches": lambda: plain_probe(whole_batches(x, y), epochs, fused=True),
    }
    cases = {
        "one learner": (config.Probe(epochs=epochs), (1.5, 1.0)),
        "9 learners in one pass": (
            config.Probe(epochs=epochs, learning_rates=(3e-4, 1e-3, 3e-3), seeds=(0, 1, 2)),
            (5.0, 3.0),
        ),
    }
    for name, (settings, claims) in cases.items():
        comparisons = timing.compare({"train_probe": lambda s=settings: our_probe(x, y, s)} | plain, rounds=rounds)
        title = f"Probe, {name}: {len(x):,} images x {x.shape[1]}, {epochs} epochs a round"
        timing.show(title, "image and learner", comparisons, at_least=dict(zip(plain, claims, strict=True)))


def our_probe(x: Tensor, y: Tensor, settings: config.Probe) -> int:
    """Train a probe; its validation split is one image, since the plain loops do not validate."""
    probe.train_probe(x, y, x[:1], y[:1], settings=settings, classes=CLASSES)
    return len(x) * settings.epochs * len(settings.learning_rates) * len(settings.seeds)


def plain_batches(x: Tensor, y: Tensor) -> Pairs:
    """Return the loader that fetches and collates image by image."""
    return DataLoader(TensorDataset(x, y), batch_size=512, shuffle=True)


def whole_batches(x: Tensor, y: Tensor) -> Pairs:
    """Return the loader that indexes the tensors by whole batches."""
    dataset = TensorDataset(x, y)
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(RandomSampler(dataset), 512, drop_last=False))


def plain_probe(loader: Pairs, epochs: int, *, fused: bool) -> int:
    """Train one learner with a plain loop; return the number of images that it has seen."""
    data = loader.dataset
    assert isinstance(data, TensorDataset)
    layer = torch.nn.Linear(data.tensors[0].shape[1], CLASSES)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3, fused=fused)
    for _ in range(epochs):
        for x, y in loader:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(layer(x), y).backward()
            optimiser.step()
    return len(data) * epochs


def measure_file(x: Tensor, y: Tensor, folder: Path, rounds: int) -> None:
    """Compare `features.read` with one raw file of the same bytes, float16 as stored."""
    split = SimpleNamespace(images=torch.arange(len(x)), labels=y, ids=torch.arange(len(x)))
    features.write(folder / "features.h5", {"train": split}, x.__getitem__, dtype="float16", attributes={})
    x.half().numpy().tofile(folder / "features.raw")

    def ours() -> int:
        return features.read(folder / "features.h5", "train").representations.nbytes

    def raw() -> int:
        return torch.from_numpy(np.fromfile(folder / "features.raw", np.float16)).nbytes

    def raw_into_memory() -> int:
        array = np.empty(tuple(x.shape), np.float16)
        with (folder / "features.raw").open("rb", buffering=0) as file:
            return file.readinto(array.data.cast("B"))

    sides = {"features.read": ours, "numpy.fromfile": raw, "readinto": raw_into_memory}
    title = f"Features file, {len(x):,} images x {x.shape[1]} float16"
    timing.show(title, "byte", timing.compare(sides, rounds=rounds), at_least={"numpy.fromfile": 0.7, "readinto": 0.7})


if __name__ == "__main__":
    main()
