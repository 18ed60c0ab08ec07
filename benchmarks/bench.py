"""A device under measurement: the rates of work on it, its ceilings, and the file of results."""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import Comparison, machine
from benchmarks.views import SIZE
from dae_ssl.compute.provenance import git_commit, versions
from dae_ssl.distributed import World, arithmetic

PRECISIONS = ("bf16", "tf32", "fp32")


@dataclass
class Bench:
    """What the parts share: the device, sizes, the ceilings once they are known, and where results go."""

    world: World
    options: argparse.Namespace
    file: Path
    ceilings: dict[str, float] = field(default_factory=dict)
    """The bytes per second for "copy", and the operations per second for each precision."""
    step_seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """The seconds per step of each epoch, by method and precision."""

    @property
    def device(self) -> torch.device:
        return self.world.device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def images(self) -> Tensor:
        """Return the images of an epoch: uint8 noise, which takes the same time as pictures."""
        size, generator = (self.options.batch * self.options.steps, 3, SIZE, SIZE), torch.Generator()
        return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator.manual_seed(0)).to(self.device)

    def rates(self, work: Callable[[], object], cost: float, *, repeat: int = 10, rounds: int = 5) -> list[float]:
        """Return for each round the rate of repeated work, in units of `cost` per second."""
        work()
        found = []
        for _ in range(rounds):
            self.wait()
            began = time.perf_counter()
            for _ in range(repeat):
                work()
            self.wait()
            found.append(repeat * cost / (time.perf_counter() - began))
        return found

    def share(self, ceiling: str, rate: float) -> float | None:
        """Return a rate divided by a ceiling, or None if the ceiling was not measured."""
        return rate / self.ceilings[ceiling] if ceiling in self.ceilings else None

    def add(self, part: str, **found: object) -> None:
        """Print the results of a part, and append them to the file."""
        print(f"{part}: " + ", ".join(f"{name} {_shown(value)}" for name, value in found.items()), flush=True)
        about = machine() | {"versions": {**versions(), "triton": triton_version()}, "commit": git_commit()}
        sizes = {name: getattr(self.options, name) for name in ("batch", "steps")}
        with self.file.open("a") as file:
            file.write(json.dumps({"part": part, **found, **sizes, "machine": about}) + "\n")

    def compared(self, part: str, unit: str, comparisons: list[Comparison]) -> None:
        """Add both sides' rates of every comparison, and their ratio with its spread."""
        for c in comparisons:
            rates = {c.ours: 1 / statistics.median(c.our_seconds), c.theirs: 1 / statistics.median(c.their_seconds)}
            self.add(f"{part}, {c.ours} over {c.theirs}", unit=unit, rates=rates, ratio=spread(c.ratios()))


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} {_shown(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return (
        f"{value:,.0f}"
        if isinstance(value, float) and abs(value) >= 1000
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def triton_version() -> str | None:
    """Return Triton's version, or None if it is not installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    import triton

    return str(triton.__version__)


def has_kornia() -> bool:
    """Return whether kornia is installed, and print a line if it is not."""
    try:
        import kornia  # noqa: F401
    except ImportError:
        print("  kornia is not installed: its side is left out", flush=True)
        return False
    return True


def measure_ceilings(bench: Bench) -> None:
    """Copy memory and multiply matrices; the fastest round is the ceiling."""
    items, side = (2**28, 8192) if bench.on_gpu else (2**24, 512)
    copy = partial(torch.empty(items, device=bench.device).copy_, torch.ones(items, device=bench.device))
    bench.ceilings["copy"] = max(bench.rates(copy, 2 * 4 * items))
    del copy
    for precision in PRECISIONS:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        left, right = torch.randn(2, side, side, device=bench.device, dtype=torch.float32).to(dtype)
        product = torch.empty_like(left)
        with arithmetic(bench.device, precision):
            multiply = partial(torch.mm, left, right, out=product)
            bench.ceilings[precision] = max(bench.rates(multiply, 2 * side**3, repeat=3, rounds=3))
    tera = {f"{precision}_tflops": bench.ceilings[precision] / 1e12 for precision in PRECISIONS}
    bench.add("ceilings", copy_gb_per_second=bench.ceilings["copy"] / 1e9, **tera)
