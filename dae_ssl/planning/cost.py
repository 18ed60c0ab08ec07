"""What nodes will cost, from what finished ones and short trials took; nothing is told that was not measured.

Several GPUs can share a cell or have one each. Ranks that share one end it sooner than one rank would, but cost less
only if they are as many times as fast as they are many; cells side by side hold their GPUs until the longest is done.
`Way` holds the two against each other.
"""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dae_ssl import config
from dae_ssl.compute.nodes import Node
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell
from dae_ssl.planning import trial
from dae_ssl.planning.plan import Array, Plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store


@dataclass
class Durations:
    """Seconds that were measured, on processors of one kind."""

    per_image: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    """Seconds that pretraining takes for one image in one epoch, by method, number of ranks and precision."""
    per_work: dict[str, list[float]] = field(default_factory=dict)
    """Of other stages: seconds for the work that `work` counts, by stage."""

    def seconds(self, node: Node, ranks: int, store: Store) -> float | None:
        """Return what a node would take.

        None when nothing like it was measured, of pretraining with as many ranks and in its precision, or when its
        images are not prepared, so that their number is not known.
        """
        if node.stage != "pretrain":
            known = self.per_work.get(node.stage)
            own = work(node.stage, config.stage_settings(node.cell, node.stage), store)
            return statistics.median(known) * own if known and own else None
        if not node.cell.method.trains:
            return 0.0
        images, precision = pretraining_images(node.cell, store), node.cell.precision
        same = self.per_image.get((node.cell.method.name, ranks, precision))
        like = same or [
            value for (_, *others), values in self.per_image.items() if others == [ranks, precision] for value in values
        ]
        return statistics.median(like) * images * node.cell.optimisation.epochs if like and images else None


def measured(store: Store) -> dict[str, Durations]:
    """Return what finished nodes and trials in a store took, on processors of each kind, `cuda` and `cpu`."""
    found = {"cuda": Durations(), "cpu": Durations()}
    for stage in config.STAGES:
        for key in store.keys(stage):
            record = store.node(stage, key).record()
            if record is not None:
                _learn(found[record.get("device_type", "cpu")], stage, record, store)
    for one in trial.measured(store):
        like = one["method"], one["ranks"], one.get("precision", Cell.precision)
        found[one["device_type"]].per_image.setdefault(like, []).append(one["seconds_per_image"])
    return found


def _learn(found: Durations, stage: str, record: Mapping[str, Any], store: Store) -> None:
    settings = record["settings"]
    if stage == "pretrain" and "optimisation" in settings:
        images = settings["data"]["images"] or images_of(store, settings["data"]["name"])
        if images:
            worked = record["seconds"] / (images * settings["optimisation"]["epochs"])
            like = settings["method"]["name"], record["ranks"], settings["precision"]
            found.per_image.setdefault(like, []).append(worked)
    elif stage != "pretrain" and (done := work(stage, settings, store)):
        found.per_work.setdefault(stage, []).append(record["seconds"] / done)


def work(stage: str, settings: Mapping[str, Any], store: Store) -> float:
    """Return how much a stage after pretraining has to do, from its settings; 0 if its images are not prepared.

    Counted in what its time grows with: features in images, the probe in images by epochs, k-means in restarts.
    """
    data = settings["data"] if stage == "features" else settings["parent"]["data"]
    images = data.get("evaluate_images") or images_of(store, data["evaluate"])
    if stage == "features":
        return float(images)
    if stage == "kmeans":
        return float(settings["kmeans"]["restarts"] if images else 0)
    learned = images - data["validation_images"] if images else 0
    return float(learned * settings["probe"]["epochs"])


def images_of(store: Store, name: str) -> int:
    """Return how many training images a prepared set has; 0 if it is not prepared."""
    return int(((store.data(name).record() or {}).get("splits", {}).get("train") or {}).get("images", 0))


def pretraining_images(cell: Cell, store: Store) -> int:
    """Return how many images an epoch of a cell's pretraining has; 0 if they are not prepared."""
    return cell.data.pretrain_images or images_of(store, cell.data.pretrain)


@dataclass(frozen=True)
class Cost:
    """GPU-hours, or node-hours where a stage asks for no GPU; and how many nodes nothing is known of."""

    gpu_hours: float
    node_hours: float
    unknown: int


def total(arrays: Iterable[Array], profile: Profile, store: Store, durations: Mapping[str, Durations]) -> Cost:
    """Return what the arrays of a plan will cost; a task has its GPUs until the last of its nodes is done."""
    gpu_hours = node_hours = 0.0
    unknown = 0
    for array in arrays:
        resources = array.resources
        ranks = resources.ranks if array.stage == "pretrain" else 1
        known = durations[device_type(profile, resources)]
        for task in array.tasks:
            told = [known.seconds(node, ranks, store) for node in task.nodes]
            seconds = [one for one in told if one is not None]
            unknown += len(told) - len(seconds)
            side_by_side = array.stage == "pretrain" and resources.packing > 1
            hours = (max(seconds, default=0.0) if side_by_side else sum(seconds)) / 3600
            gpu_hours += hours * resources.gpus
            node_hours += hours * resources.machines if resources.gpus == 0 else 0.0
    return Cost(gpu_hours, node_hours, unknown)


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
    own = profile.stages.pretrain
    together = max(own.packing, own.ranks_per_machine)
    shared = replace(own, packing=1, ranks_per_machine=together)
    packed = replace(own, packing=together, ranks_per_machine=1, machines=1)
    both = [own] if together == 1 else [packed, shared] if own == packed else [own, packed]
    return [_way(nodes, resources, store, durations[device_type(profile, own)]) for resources in both if nodes]


def _way(nodes: Sequence[Node], resources: Resources, store: Store, known: Durations) -> Way:
    told = [known.seconds(node, resources.ranks, store) for node in nodes]
    seconds = tuple(one for one in told if one is not None)
    return Way(resources=resources, seconds=seconds if len(seconds) == len(told) else ())
