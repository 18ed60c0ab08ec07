"""What nodes will cost, from what finished ones and short trials took."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dae_ssl import config
from dae_ssl.batch import trial
from dae_ssl.batch.plan import Wanted, needs
from dae_ssl.batch.profile import Profile, Resources
from dae_ssl.config import Cell
from dae_ssl.store import Store


@dataclass
class Durations:
    """Seconds that were measured, on processors of one kind."""

    per_image: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """Of pretraining: seconds for one image in one epoch, by method and number of ranks."""
    per_work: dict[str, list[float]] = field(default_factory=dict)
    """Of other stages: seconds for the work that `work` counts, by stage."""

    def seconds(self, node: Wanted, ranks: int, store: Store) -> float | None:
        """Return what a node would take, or None when nothing like it was measured with as many ranks."""
        if node.stage != "pretrain":
            known = self.per_work.get(node.stage)
            own = work(node.stage, config.stage_settings(node.cell, node.stage), store)
            return statistics.median(known) * own if known and own else None
        if not node.cell.method.trains:
            return 0.0
        images = pretraining_images(node.cell, store)
        same = self.per_image.get((node.cell.method.name, ranks))
        like = same or [value for (_, n), values in self.per_image.items() if n == ranks for value in values]
        return statistics.median(like) * images * node.cell.optimisation.epochs if like else None


def measured(store: Store) -> dict[str, Durations]:
    """Return what finished nodes and trials in a store took, on processors of each kind, `cuda` and `cpu`."""
    found = {"cuda": Durations(), "cpu": Durations()}
    for stage in config.STAGES:
        for key in store.keys(stage):
            record = store.node(stage, key).record()
            if record is not None:
                _learn(found[record.get("device_type", "cpu")], stage, record, store)
    for one in trial.measured(store):
        times = found[one["device_type"]].per_image.setdefault((one["method"], one["ranks"]), [])
        times.append(one["seconds_per_image"])
    return found


def _learn(found: Durations, stage: str, record: Mapping[str, Any], store: Store) -> None:
    settings = record["settings"]
    if stage == "pretrain" and "optimisation" in settings:
        images = settings["data"]["images"] or images_of(store, settings["data"]["name"])
        if images:
            worked = record["seconds"] / (images * settings["optimisation"]["epochs"])
            found.per_image.setdefault((settings["method"]["name"], record["ranks"]), []).append(worked)
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


def total(
    wanted: Iterable[Wanted],
    profile: Profile,
    store: Store,
    durations: Mapping[str, Durations],
    changed: Mapping[str, int],
) -> Cost:
    """Return what nodes will cost with a profile; `changed` replaces fields of pretraining's resources."""
    gpu_hours = node_hours = 0.0
    unknown = 0
    for node in wanted:
        resources = needs(node, profile)
        if changed and node.stage == "pretrain" and node.cell.method.trains:
            resources = Resources(**{**_fields(resources), **changed})
        ranks = resources.ranks if node.stage == "pretrain" else 1
        seconds = durations[device_type(profile, resources)].seconds(node, ranks, store)
        if seconds is None:
            unknown += 1
            continue
        # A packed cell has one of the task's GPUs, and its share of the machine.
        hours = seconds / 3600 / resources.packing
        gpu_hours += hours * resources.gpus
        node_hours += hours * resources.nodes if resources.gpus == 0 else 0.0
    return Cost(gpu_hours, node_hours, unknown)


def device_type(profile: Profile, resources: Resources) -> str:
    """Return what a stage computes on: `cuda` where it asks for GPUs and may use them, else `cpu`."""
    return "cuda" if resources.gpus and profile.device != "cpu" else "cpu"


def _fields(resources: Resources) -> dict[str, Any]:
    return {name: getattr(resources, name) for name in Resources.__dataclass_fields__}
