"""Both sides of a speed claim, measured in turn in one run and printed as a ratio with its spread."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Comparison:
    """One other side compared with this project: the seconds per item of both sides, with one entry per round."""

    ours: str
    theirs: str
    our_seconds: tuple[float, ...]
    their_seconds: tuple[float, ...]

    def ratios(self) -> list[float]:
        """Return for each round how many times faster this project was."""
        return [theirs / ours for ours, theirs in zip(self.our_seconds, self.their_seconds, strict=True)]


def compare(sides: Mapping[str, Callable[[], int]], *, rounds: int = 5, warmup: int = 1) -> list[Comparison]:
    """Time every side in turn, A B C A B C ..., and compare the first with each of the others.

    A side is a function that does its work and returns how many items it did. Taking turns lets a ratio hold while the
    machine's speed drifts. Rounds after `warmup` count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for done in range(warmup + rounds):
        for name, work in sides.items():
            start = time.perf_counter()
            items = work()
            if done >= warmup:
                seconds[name].append((time.perf_counter() - start) / items)
    ours, *others = sides
    return [Comparison(ours, other, tuple(seconds[ours]), tuple(seconds[other])) for other in others]


def show(title: str, unit: str, comparisons: list[Comparison], *, at_least: Mapping[str, float]) -> None:
    """Print the table, and append it with the machine and versions to the file named by BENCHMARK_JSON, if set.

    `at_least` names, for each other side, the ratio that is claimed; the median is held against it.
    """
    print(f"{title} ({unit}/s; ratio: median over rounds, minimum to maximum)")
    rows = []
    for c in comparisons:
        ratios, claim = c.ratios(), at_least[c.theirs]
        row = {
            "ours": c.ours,
            "theirs": c.theirs,
            "our_rate": 1 / statistics.median(c.our_seconds),
            "their_rate": 1 / statistics.median(c.their_seconds),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "claim": claim,
            "holds": statistics.median(ratios) >= claim,
        }
        rows.append(row)
        print(
            f"  {c.ours} {row['our_rate']:,.0f}   {c.theirs} {row['their_rate']:,.0f}   "
            f"ratio {row['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})   "
            f"claim >= {claim}: {'holds' if row['holds'] else 'does not hold here'}",
            flush=True,
        )
    if path := os.environ.get("BENCHMARK_JSON"):
        entry = {"title": title, "unit": unit, "rows": rows, "machine": machine()}
        with Path(path).open("a") as file:
            file.write(json.dumps(entry) + "\n")


def machine() -> dict[str, str | int]:
    """Return what a reader needs to judge the numbers: processor, threads, device, versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = f"{names[0]} x {len(names)}" if names else cpu
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
