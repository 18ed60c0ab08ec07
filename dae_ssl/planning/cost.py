"""Estimate what nodes will cost from the times of finished nodes and short trials; nothing is guessed.

Several GPUs can train one cell together, or one cell each. Together, n ranks finish a cell sooner than one rank, but
use fewer GPU-hours only if the speed-up exceeds n. Cells side by side hold all GPUs of their task until the longest
cell is done. `Way` describes one of the two, so that they can be compared.
"""

import functools
import heapq
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dae_ssl import config
from dae_ssl.compute.nodes import Node
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell
from dae_ssl.data import prepared
from dae_ssl.planning import trial
from dae_ssl.planning.plan import Array, Plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store

Images = Callable[[str], int]
"""Maps the name of a data set to its number of training images, 0 if it is not prepared."""


def images_in(store: Store) -> Images:
    """Return a function that gives the number of training images of a data set; each record is read only once."""

    @functools.cache
    def images(name: str) -> int:
        return int(prepared.splits(store, name).get("train", {}).get("images", 0))

    return images


@dataclass
class Durations:
    """The seconds that were measured on one kind of device."""

    per_image: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    """Seconds of pretraining per image and epoch, by method, number of ranks and precision."""
    per_work: dict[str, list[float]] = field(default_factory=dict)
    """Seconds per unit of `work`, by stage, for the stages after pretraining."""

    def seconds(self, node: Node, ranks: int, images: Images) -> float | None:
        """Return the estimated seconds of a node, or None if there is nothing to estimate them from.

        Pretraining is estimated from runs with the same number of ranks and the same precision. The estimate is also
        None if the node's images are not prepared, since their number is then unknown.
        """
        if node.stage == "pretrain":
            return self._pretraining(node.cell, ranks, images)
        known = self.per_work.get(node.stage)
        amount = work(node.stage, config.stage_settings(node.cell, node.stage), images) if known else 0
        return statistics.median(known) * amount if known and amount else None

    def _pretraining(self, cell: Cell, ranks: int, images: Images) -> float | None:
        if not cell.method.trains:
            return 0.0
        count = cell.data.pretrain_images or images(cell.data.pretrain)
        same_method = self.per_image.get((cell.method.name, ranks, cell.precision))
        samples = same_method or [
            value
            for (_, *others), values in self.per_image.items()
            if others == [ranks, cell.precision]
            for value in values
        ]
        return statistics.median(samples) * count * cell.optimisation.epochs if samples and count else None


def measured(store: Store) -> dict[str, Durations]:
    """Return the measured times of a store's finished nodes and trials by kind of device, `cuda` and `cpu`."""
    durations = {"cuda": Durations(), "cpu": Durations()}
    images = images_in(store)
    for stage in config.STAGES:
        for key in store.keys(stage):
            record = store.node(stage, key).record()
            if record is not None:
                _learn(durations[record.get("device_type", "cpu")], stage, record, images)
    for timed in trial.measured(store):
        kind = timed["method"], timed["ranks"], timed.get("precision", Cell.precision)
        durations[timed["device_type"]].per_image.setdefault(kind, []).append(timed["seconds_per_image"])
    return durations


def _learn(durations: Durations, stage: str, record: Mapping[str, Any], images: Images) -> None:
    settings = record["settings"]
    if stage == "pretrain" and "optimisation" in settings:
        count = settings["data"]["images"] or images(settings["data"]["name"])
        if count:
            per_image = record["seconds"] / (count * settings["optimisation"]["epochs"])
            kind = settings["method"]["name"], record["ranks"], settings["precision"]
            durations.per_image.setdefault(kind, []).append(per_image)
    elif stage != "pretrain" and (amount := work(stage, settings, images)):
        durations.per_work.setdefault(stage, []).append(record["seconds"] / amount)


def work(stage: str, settings: Mapping[str, Any], images: Images) -> float:
    """Return the amount of work of a stage after pretraining, given its settings; 0 if its images are not prepared.

    The unit is what the stage's time is proportional to: images for features, images times epochs for the probe,
    restarts for k-means.
    """
    data = settings["data"] if stage == "features" else settings["parent"]["data"]
    count = data.get("evaluate_images") or images(data["evaluate"])
    if stage == "features":
        return float(count)
    if stage == "kmeans":
        return float(settings["kmeans"]["restarts"] if count else 0)
    learned = count - data["validation_images"] if count else 0
    return float(learned * settings["probe"]["epochs"])


@dataclass(frozen=True)
class Cost:
    """GPU-hours, machine-hours of the stages that ask for no GPU, and the number of nodes without an estimate."""

    gpu_hours: float
    machine_hours: float
    unknown: int


def total(arrays: Iterable[Array], profile: Profile, store: Store, durations: Mapping[str, Durations]) -> Cost:
    """Return the estimated cost of a plan's arrays; a task holds its GPUs until the last of its nodes is done."""
    gpu_hours = machine_hours = 0.0
    unknown, images = 0, images_in(store)
    for array in arrays:
        resources = array.resources
        ranks = resources.ranks if array.stage == "pretrain" else 1
        known = durations[device_type(profile, resources)]
        for task in array.tasks:
            estimates = [known.seconds(node, ranks, images) for node in task.nodes]
            seconds = [estimate for estimate in estimates if estimate is not None]
            unknown += len(estimates) - len(seconds)
            side_by_side = array.stage == "pretrain" and resources.packing > 1
            hours = (max(seconds, default=0.0) if side_by_side else sum(seconds)) / 3600
            gpu_hours += hours * resources.gpus
            machine_hours += hours * resources.machines if resources.gpus == 0 else 0.0
    return Cost(gpu_hours, machine_hours, unknown)


def device_type(profile: Profile, resources: Resources) -> str:
    """Return the kind of device of a stage: `cuda` if it asks for GPUs and the profile lets it use them, or `cpu`."""
    return "cuda" if resources.gpus and profile.device != "cpu" else "cpu"


# ---------------------------------------------------------------------------------- two ways to use several GPUs


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to pretrain cells: each by all ranks of a task, or side by side with one rank and GPU each.

    A cell side by side with others is assumed to be as fast as a single rank alone, which needs enough CPUs for all.
    """

    resources: Resources
    seconds: tuple[float, ...]
    """The estimated seconds of each cell, in order; empty if there is no estimate for one of them."""

    def tasks(self) -> list[float]:
        """Return the seconds of each task, which are those of its longest cell."""
        packing = self.resources.packing
        return [max(self.seconds[first : first + packing]) for first in range(0, len(self.seconds), packing)]

    @property
    def hours(self) -> float:
        """The GPU-hours of all tasks, or the machine-hours if they ask for no GPU."""
        return sum(self.tasks()) / 3600 * (self.resources.gpus or self.resources.machines)

    @property
    def busy(self) -> float:
        """The share of the GPUs' time in which they train: below 1 if a task is not full or its cells differ."""
        return sum(self.seconds) / (self.resources.packing * sum(self.tasks()))

    def until_done(self, parallel: int) -> float:
        """Return the hours until all cells are done if `parallel` tasks run at a time and never wait for a machine."""
        ends = [0.0] * parallel
        for seconds in self.tasks():
            heapq.heapreplace(ends, ends[0] + seconds)
        return max(ends) / 3600


def ways(planned: Plan, profile: Profile, store: Store, durations: Mapping[str, Durations]) -> list[Way]:
    """Return the profile's way to pretrain the missing cells, then the other way to use the GPUs of its tasks.

    The list is empty if no cell has to be pretrained, and has only the first way if a task has a single process.
    """
    nodes = [node for node in planned.missing() if node.stage == "pretrain" and node.cell.method.trains]
    usual = profile.stages.pretrain
    together = max(usual.packing, usual.ranks_per_machine)
    shared = replace(usual, packing=1, ranks_per_machine=together)
    packed = replace(usual, packing=together, ranks_per_machine=1, machines=1)
    choices = [usual] if together == 1 else [packed, shared] if usual == packed else [usual, packed]
    known, images = durations[device_type(profile, usual)], images_in(store)
    return [_way(nodes, resources, known, images) for resources in choices if nodes]


def _way(nodes: Sequence[Node], resources: Resources, known: Durations, images: Images) -> Way:
    estimates = [known.seconds(node, resources.ranks, images) for node in nodes]
    seconds = tuple(estimate for estimate in estimates if estimate is not None)
    return Way(resources=resources, seconds=seconds if len(seconds) == len(estimates) else ())
