"""Show where the seconds of a cell go apart from its training steps: a trace of whole cells and floors, part by part.

Target, on a card: under 12 s a cell beside the steps, at the size of the study (50,000 + 10,000 images, 200 epochs of
the probe), k-means apart, which runs on processors beside the next cell's training.

Cells differ in their seed and run one after another in one process, as a task's do, so that the second one shows what
is done once for all. Every stage is the product's own; pretraining alone is cut to a handful of steps. `rest` is what
a stage spends outside its named parts: waiting for its lock, verifying, hashing and committing; of `pretrain` it is
all but the steps, so that it holds compiling, reading images, drawing, monitoring and keeping.

    python -m benchmarks.cell                                       the size of the study, synthetic images
    python -m benchmarks.cell --images 1500 --test 300 --batch 64 --probe-epochs 20 --restarts 1      a quick look
    python -m benchmarks.cell --prepared store/data/cifar10         a set that is prepared already
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from benchmarks.timing import machine
from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.compute.life import compute, pretrain
from dae_ssl.compute.log import curves
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell
from dae_ssl.distributed import world
from dae_ssl.store import Folder, Store

CLASSES, SIDE = 10, 32
TARGET_SECONDS = 12

Seconds = dict[str, dict[str, float]]
"""The seconds by stage, then by part."""


def main() -> None:
    """Run the cells and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=int, default=50_000, help="number of training images, a tenth of them for validation"
    )
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument(
        "--prepared", type=Path, metavar="STORE/data/NAME", help="prepared set to use instead of synthetic images"
    )
    parser.add_argument("--method", default="dae:l2:1", metavar="NAME[:EMBEDDING:ALPHA]")
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="steps of pretraining")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--probe-epochs", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=10, help="restarts of k-means")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--folder", type=Path, help="folder for the store; a temporary one by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, world(given.device) as alone:
        store = Store(Path(folder))
        first = described(given, images(store, given))
        context = Context(store, alone, tell=lambda line: print(f"  {line}"))
        for seed in range(given.cells):
            show(replace(first, seed=seed), context)


def images(store: Store, given: argparse.Namespace) -> str:
    """Write the data set to the store, and return its name."""
    if given.prepared is not None:
        store.data("").path.mkdir(parents=True)
        store.data(given.prepared.name).path.symlink_to(given.prepared.resolve())
        return str(given.prepared.name)
    random, node = np.random.default_rng(0), store.data("synthetic")
    node.create()
    patterns = random.integers(0, 128, (CLASSES, 3, SIDE, SIDE), dtype=np.uint8)
    splits = {}
    for split, count in (("train", given.images), ("test", given.test)):
        labels = np.arange(count) % CLASSES
        pixels = patterns[labels] + random.integers(0, 128, (count, 3, SIDE, SIDE), dtype=np.uint8)
        np.save(node.product(f"{split}-images.npy"), pixels)
        np.save(node.product(f"{split}-labels.npy"), labels)
        splits[split] = {"images": count, "shape": [3, SIDE, SIDE], "digest": f"synthetic {count}"}
    node.commit({"classes": [str(label) for label in range(CLASSES)], "splits": splits})
    return "synthetic"


def described(given: argparse.Namespace, name: str) -> Cell:
    """Return the first cell, which has the study's settings except those of the options."""
    method, *loss = given.method.split(":")
    used = given.images if given.prepared is None else None
    return config.cell(
        method={"name": method} | ({"embedding": loss[0], "alpha": float(loss[1])} if loss else {}),
        data={
            "pretrain": name,
            "evaluate": name,
            "pretrain_images": given.steps * given.batch,
            "validation_images": 5000 if used is None else used // 10,
        },
        optimisation={"epochs": 1, "batch_size": given.batch},
        probe={"epochs": given.probe_epochs},
        kmeans={"restarts": given.restarts},
        precision=given.precision,
    )


def show(cell: Cell, context: Context) -> None:
    """Compute a cell and its floors, and print where their seconds went."""
    print(f"\n{config.title(cell)}", flush=True)
    total = 0.0
    for words, shown in {"cell": cell, **cells.floors(cell)}.items():
        seconds = timed(shown, context)
        total += (beside := beside_steps(seconds))
        print(f"{words:16}{beside:8.2f} s beside the steps")
        for stage, parts in seconds.items():
            print(f"  {stage:14}{sum(parts.values()):8.2f}   " + ", ".join(f"{k} {v:.2f}" for k, v in parts.items()))
        keep({"title": f"seconds of {words}, {config.title(cell)}", "seconds": seconds})
    print(
        f"in all, k-means apart: {total:.2f} s beside the steps (target on a card: under {TARGET_SECONDS})", flush=True
    )


def timed(cell: Cell, context: Context) -> Seconds:
    """Compute all stages of a cell, and return the seconds of their parts, without those of finished stages."""
    found: Seconds = {}
    cells.describe(cell, context.store)
    for stage in cell.stages():
        node = cells.nodes(cell, context.store)[stage]
        if node.record() is not None:
            continue
        began = time.perf_counter()
        if stage == "pretrain":
            pretrain(cell, context)
        else:
            compute(cell, stage, context)
        found[stage] = split(node, time.perf_counter() - began)
    return found


def split(node: Folder, seconds: float) -> dict[str, float]:
    """Return the seconds of a stage's parts, and the rest of the stage's seconds."""
    parts = dict((node.record() or {}).get("parts", {}))
    steps = curves(node.log).get("step_seconds", [])
    parts |= {"steps": sum(value for _, value, _ in steps)} if steps else {}
    return parts | {"rest": seconds - sum(parts.values())}


def beside_steps(seconds: Seconds) -> float:
    """Return the seconds of everything except the training steps and k-means."""
    return sum(sum(parts.values()) - parts.get("steps", 0) for stage, parts in seconds.items() if stage != "kmeans")


def keep(entry: dict[str, object]) -> None:
    """Append the results, with the machine, to the file that BENCHMARK_JSON names, if it is set."""
    if path := os.environ.get("BENCHMARK_JSON"):
        with Path(path).open("a") as file:
            file.write(json.dumps(entry | {"machine": machine()}) + "\n")


if __name__ == "__main__":
    main()
