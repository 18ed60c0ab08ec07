"""Time training as `pretrain` does it, with a watch, and the plain loops."""

import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import dae_ssl.training.methods  # noqa: F401
from benchmarks import counted, pretrain
from benchmarks.bench import Bench, has_kornia, spread
from benchmarks.timing import Comparison
from dae_ssl import config
from dae_ssl.compute.provenance import device_name
from dae_ssl.distributed import arithmetic
from dae_ssl.training import pretrain as training
from dae_ssl.training.checkpoint import States

METHODS: dict[str, dict[str, Any]] = {
    "dae": {"name": "dae", "embedding": "l2", "alpha": 1},
    "simclr": {"name": "simclr"},
    "ae": {"name": "ae", "embedding": "l2", "alpha": 1},
}
PROFILED_STEPS = 10
PLAIN_BATCHES = 4
"""The steps in a turn of a loop that is much slower than this project's."""


@dataclass
class Stopwatch:
    """A watch of `pretrain` that records times, with one entry for every epoch after the first."""

    bench: Bench
    profiled_epoch: int | None = None
    began: float = field(default_factory=time.perf_counter)
    first_step: float | None = None
    """The seconds until the first step was issued, which include compilation, if there is any."""
    seconds: list[float] = field(default_factory=list)
    host_seconds: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    told: dict[str, object] = field(default_factory=dict)
    started: float = 0.0
    """The time of the last synchronisation with the device."""
    profile: Any = None
    table: str | None = None

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Record the time after the first and the last step of an epoch, or profile the steps between them."""
        if self.first_step is None:
            self.first_step = time.perf_counter() - self.began
        if epoch == self.profiled_epoch:
            if "not_profiled" in self.told:
                return
            try:
                self._profile(step, steps)
            except Exception as error:  # what was measured before must not be lost
                self.event("not_profiled", f"{type(error).__name__}: {error}")
        elif step in (1, steps):
            handed_over = time.perf_counter()
            self.bench.wait()
            if step == steps and epoch > 0:
                self.host_seconds.append((handed_over - self.started) / (steps - 1))
                self.seconds.append((time.perf_counter() - self.started) / (steps - 1))
            self.started = time.perf_counter()

    def _profile(self, step: int, steps: int) -> None:
        if step == 1:
            self.bench.wait()
            kinds = [torch.profiler.ProfilerActivity.CPU]
            kinds += [torch.profiler.ProfilerActivity.CUDA] if self.bench.on_gpu else []
            self.profile = torch.profiler.profile(activities=kinds)
            self.profile.start()
        if step == min(1 + PROFILED_STEPS, steps):
            self.bench.wait()
            self.profile.stop()
            order = "self_cuda_time_total" if self.bench.on_gpu else "self_cpu_time_total"
            self.table = self.profile.key_averages().table(sort_by=order, row_limit=120, max_name_column_width=90)

    def log(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Record how long an epoch took, including everything around its steps."""
        if epoch > 1 and self.profile is None:
            self.epoch_seconds.append(terms["epoch_seconds"])

    def event(self, kind: str, text: str) -> None:
        """Record an event, for example that the step is not compiled."""
        print(f"  {kind}: {text[:300]}", flush=True)
        self.told[kind] = text

    def facts(self, facts: Mapping[str, object]) -> None:
        """Record how the steps are computed."""
        self.told |= facts

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None:
        """Keep nothing."""

    def stop(self) -> bool:
        """Never stop."""
        return False


def measure_step(bench: Bench, method: str, precision: str, *, profiled: bool = False) -> None:
    """Train a few epochs, and then profile the steps of one more if that is requested."""
    epochs = bench.options.epochs
    cell = config.cell(
        method=METHODS[method],
        precision=precision,
        optimisation={"batch_size": bench.options.batch, "epochs": epochs + profiled},
    )
    watch = Stopwatch(bench, profiled_epoch=epochs if profiled else None)
    with arithmetic(bench.device, precision), tempfile.TemporaryDirectory() as folder:
        training.pretrain(cell, bench.images(), bench.world, States(Path(folder)), watch, save_seconds=math.inf)
    flop, moved = counted.step(cell)
    seconds, steps = statistics.median(watch.seconds), bench.options.steps
    bench.step_seconds[method, precision] = watch.seconds
    bench.add(
        f"step, {method} {precision}",
        milliseconds=spread([1e3 * value for value in watch.seconds]),
        host_milliseconds=spread([1e3 * value for value in watch.host_seconds]),
        images_per_second=bench.options.batch / seconds,
        gflop=flop / 1e9,
        megabytes_at_least=moved / 1e6,
        share_of_products=bench.share(precision, flop / seconds),
        share_of_copy=bench.share("copy", moved / seconds),
        seconds_to_first_step=watch.first_step,
        seconds_an_epoch_around_steps=statistics.median(watch.epoch_seconds) - steps * seconds,
        told=watch.told,
    )
    if watch.table is not None:
        path = bench.file.with_name(f"{bench.file.stem}-kernels-{method}-{precision}.txt")
        path.write_text(f"{min(PROFILED_STEPS, steps - 1)} steps, {device_name(bench.device)}\n\n{watch.table}\n")
        print(f"  kernels: {path}", flush=True)


def measure_plain_loop(bench: Bench) -> None:
    """Compare the measured training of the DAE with the plain loops in the same precision."""
    precision = bench.options.precisions[0]
    options = pretrain.Options(bench.options.batch, min(PLAIN_BATCHES, bench.options.steps), precision)
    sides = {"plain loop": pretrain.plain_with_loader}
    if has_kornia():
        sides["plain loop, kornia's views"] = pretrain.plain_with_kornia
    measured = bench.step_seconds.get(("dae", precision), [])
    for name, side in sides.items():
        with side(options) as turn:
            turn()
            theirs = []
            for _ in range(max(2, len(measured))):
                began = time.perf_counter()
                turn()
                theirs.append((time.perf_counter() - began) / (options.steps * options.batch))
        ours = [seconds / options.batch for seconds in measured]
        n = min(len(ours), len(theirs))
        if ours:
            bench.compared("training, dae", "images", [Comparison("dae_ssl", name, tuple(ours[:n]), tuple(theirs[:n]))])
        else:
            bench.add(f"training, {name}", images_per_second=1 / statistics.median(theirs))
