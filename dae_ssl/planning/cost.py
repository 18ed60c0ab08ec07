"""What nodes will cost, from what finished ones and short trials took; nothing is said that was not measured.

Several GPUs can share a cell or have one each. Ranks that share one end it sooner than one rank would, but cost less
only if they are as many times as fast as they are many; cells side by side hold their GPUs until the longest is done.
`Way` holds the two against each other.
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
"""How many training images a prepared data set has, by its name; 0 if it is not prepared."""


def images_in(store: Store) -> Images:
    """Return what tells how many images the data sets of a store have; each record is read once."""

    @functools.cache
    def images(name: str) -> int:
        return int(prepared.splits(store, name).get("train", {}).get("images", 0))

    return images


@dataclass
class Durations:
    """Seconds that were measured, on processors of one kind."""

    per_image: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    """Seconds that pretraining takes for one image in one epoch, by method, number of ranks and precision."""
    per_work: dict[str, list[float]] = field(default_factory=dict)
    """Seconds that other stages take for the work that `work` counts, by stage."""

    def seconds(self, node: Node, ranks: int, images: Images) -> float | None:
        """Return what a node would take.

        None when nothing like it was measured, of pretraining with as many ranks and in its precision, or when its
        images are not prepared, so that their number is not known.
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
        same = self.per_image.get((cell.method.name, ranks, cell.precision))
        like = same or [
            value
            for (_, *others), values in self.per_image.items()
            if others == [ranks, cell.precision]
            for value in values
        ]
        return statistics.median(like) * count * cell.optimisation.epochs if like and count else None


def measured(store: Store) -> dict[str, Durations]:
    """Return what finished nodes and trials in a store took, on processors of each kind, `cuda` and `cpu`."""
    durations = {"cuda": Durations(), "cpu": Durations()}
    images = images_in(store)
    for stage in config.STAGES:
        for key in store.keys(stage):
            record = store.node(stage, key).record()
            if record is not None:
                _learn(durations[record.get("device_type", "cpu")], stage, record, images)
    for timed in trial.measured(store):
        like = timed["method"], timed["ranks"], timed.get("precision", Cell.precision)
        durations[timed["device_type"]].per_image.setdefault(like, []).append(timed["seconds_per_image"])
    return durations


def _learn(durations: Durations, stage: str, record: Mapping[str, Any], images: Images) -> None:
    settings = record["settings"]
    if stage == "pretrain" and "optimisation" in settings:
        count = settings["data"]["images"] or images(settings["data"]["name"])
        if count:
            each = record["seconds"] / (count * settings["optimisation"]["epochs"])
            like = settings["method"]["name"], record["ranks"], settings["precision"]
            durations.per_image.setdefault(like, []).append(each)
    elif stage != "pretrain" and (amount := work(stage, settings, images)):
        durations.per_work.setdefault(stage, []).append(record["seconds"] / amount)


def work(stage: str, settings: Mapping[str, Any], images: Images) -> float:
    """Return how much a stage after pretraining has to do, from its settings; 0 if its images are not prepared.

    Counted in what its time grows with: features in images, the probe in images by epochs, k-means in restarts.
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
    """GPU-hours, or machine-hours where a stage asks for no GPU; and how many nodes nothing is known of."""

    gpu_hours: float
    machine_hours: float
    unknown: int


def total(arrays: Iterable[Array], profile: Profile, store: Store, durations: Mapping[str, Durations]) -> Cost:
    """Return what the arrays of a plan will cost; a task has its GPUs until the last of its nodes is done."""
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
    """Return what a stage computes on: `cuda` where it asks for GPUs and may use them, else `cpu`."""
    return "cuda" if resources.gpus and profile.device != "cpu" else "cpu"


# ---------------------------------------------------------------------------------- two ways to use several GPUs


@dataclass(frozen=True, kw_only=True)
class Way:
    """Cells that are pretrained each by all ranks of a task, or side by side, a GPU and a rank each.

    Beside others a cell is taken to be as fast as a single rank was, which asks for CPUs enough for all of them.
    """

    resources: Resources
    seconds: tuple[float, ...]
    """What each of the cells takes, in order; empty where one of them was never timed like this."""

    def tasks(self) -> list[float]:
        """Return the seconds of each task; cells side by side hold its GPUs until the longest is done."""
        packing = self.resources.packing
        return [max(self.seconds[first : first + packing]) for first in range(0, len(self.seconds), packing)]

    @property
    def hours(self) -> float:
        """Hours of GPUs in all; of machines, where tasks ask for no GPU."""
        return sum(self.tasks()) / 3600 * (self.resources.gpus or self.resources.machines)

    @property
    def busy(self) -> float:
        """Share of the GPUs' time in which a cell is under way: less than 1 where tasks are not full, or not even."""
        return sum(self.seconds) / (self.resources.packing * sum(self.tasks()))

    def until_done(self, parallel: int) -> float:
        """Return the hours until all cells are done, with so many tasks at a time and no waiting for machines."""
        ends = [0.0] * parallel
        for seconds in self.tasks():
            heapq.heapreplace(ends, ends[0] + seconds)
        return max(ends) / 3600


def ways(planned: Plan, profile: Profile, store: Store, durations: Mapping[str, Durations]) -> list[Way]:
    """Return how the missing cells are pretrained as the profile has it, then the other way to use its tasks' GPUs.

    None where nothing is to be pretrained, one where a task has one process.
    """
    nodes = [node for node in planned.missing() if node.stage == "pretrain" and node.cell.method.trains]
    usual = profile.stages.pretrain
    together = max(usual.packing, usual.ranks_per_machine)
    shared = replace(usual, packing=1, ranks_per_machine=together)
    packed = replace(usual, packing=together, ranks_per_machine=1, machines=1)
    both = [usual] if together == 1 else [packed, shared] if usual == packed else [usual, packed]
    known, images = durations[device_type(profile, usual)], images_in(store)
    return [_way(nodes, resources, known, images) for resources in both if nodes]


def _way(nodes: Sequence[Node], resources: Resources, known: Durations, images: Images) -> Way:
    estimates = [known.seconds(node, resources.ranks, images) for node in nodes]
    seconds = tuple(estimate for estimate in estimates if estimate is not None)
    return Way(resources=resources, seconds=seconds if len(seconds) == len(estimates) else ())
