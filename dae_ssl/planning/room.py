"""Estimate the disk space that a plan needs, at its peak and in the end, with features kept and with features dropped.

Products are assumed to be as large as those of finished nodes of the same kind. Without such a node, their size is
computed: images times width for features, parameters for encoders.
"""

import json
import math
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from dae_ssl import config
from dae_ssl.compute import disk
from dae_ssl.compute.disk import said
from dae_ssl.compute.nodes import Node
from dae_ssl.compute.shares import WIDTH
from dae_ssl.data import prepared
from dae_ssl.planning.plan import Plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import LEFT_BEHIND, Store

ENCODER, OTHERS = 360_992, 1_337_000
"""The parameters of the encoder (Table 3), and approximately those of projector and decoder for 64-dimensional
embeddings."""
PICTURES = 16 * 5 * 3 * 32 * 32
"""The bytes of one epoch's example pictures."""
STATE = 4 * 3 * (ENCODER + OTHERS)
"""The bytes of a saved state: the parameters in fp32 and Adam's two moments of each."""
STATES = 3
"""The largest number of saved states that one training has on disk, which is while it writes the newest."""
RECORD = 20_000
"""The approximate bytes of a node's record, log and other small files."""
SAMPLE = 5
"""The number of finished nodes of each kind that are read."""
HERE = 4
"""The assumed number of nodes that a run on this machine computes at the same time."""


@dataclass(frozen=True)
class Room:
    """The bytes that a plan adds to the store: in the end, and at the peak while it is computed."""

    end: int
    peak: int
    unknown: int
    """The number of nodes that are left out because their images are not prepared."""


class Weights:
    """The sizes of nodes' products, read from a store when they are first needed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Hashable, list[int]] = {}
        self._unread = {stage: sorted(store.keys(stage)) for stage in config.STAGES}

    def products(self, node: Node) -> int | None:
        """Return the estimated bytes of a node's products, or None if its images are not prepared."""
        settings = config.stage_settings(node.cell, node.stage)
        sizes = self._measured(node.stage, _kind(node.stage, settings))
        return round(statistics.median(sizes)) if sizes else self._computed(node.stage, settings)

    def _measured(self, stage: str, kind: Hashable) -> list[int]:
        """Return the sizes of up to SAMPLE finished nodes of a kind, without reading more records than necessary."""
        while len(self._known.get(kind, ())) < SAMPLE and self._unread[stage]:
            record = self._store.node(stage, self._unread[stage].pop()).record()
            if record is not None:
                products = record["products"] | record.get(LEFT_BEHIND, {})
                weight = sum(facts["bytes"] for facts in products.values())
                self._known.setdefault(_kind(stage, record.get("settings", {})), []).append(weight)
        return self._known.get(kind, [])

    def _computed(self, stage: str, settings: Mapping[str, Any]) -> int | None:
        """Return the size of a node's products from its settings, for a kind without finished nodes."""
        if stage == "pretrain":
            kept = len(settings["optimisation"]["checkpoints"]) if "optimisation" in settings else 1
            return 4 * ENCODER * kept + (PICTURES * kept + 4 * (ENCODER + OTHERS) if "optimisation" in settings else 0)
        data = settings["data"] if stage == "features" else settings["parent"]["data"]
        splits = prepared.splits(self._store, data["evaluate"])
        if not splits:
            return None
        test = int(splits["test"]["images"])
        if stage == "features":
            images = test + int(data.get("evaluate_images") or splits["train"]["images"])
            width = WIDTH if "epoch" in settings else math.prod(splits["train"]["shape"])
            return images * (width * (2 if settings["dtype"] == "float16" else 4) + 16)
        return test * (9 + len(settings["probe"]["seeds"])) if stage == "probe" else 0


def _kind(stage: str, settings: Mapping[str, Any]) -> Hashable:
    """Return the part of a node's settings on which the size of its products depends."""
    decides: Any = {name: settings.get(name) for name in ("data", "dtype")} | {"encoder": "epoch" in settings}
    if stage == "pretrain":
        epochs = settings.get("optimisation", {}).get("checkpoints", ())
        decides = {
            "method": settings.get("method", {}).get("name"),
            "kept": len(epochs),
            **settings.get("networks", {}),
        }
    if stage in disk.READERS:
        data = settings.get("parent", {}).get("data", {})
        decides = {"evaluate": data.get("evaluate"), "seeds": len(settings.get("probe", {}).get("seeds", ()))}
    return stage, json.dumps(decides, sort_keys=True)


# ---------------------------------------------------------------------------------- the needs of a plan


def needed(planned: Plan, profile: Profile, store: Store) -> dict[bool, Room]:
    """Return the space that a plan needs if features are kept (True) and if they are dropped (False).

    Features that are dropped exist while they are written and read; as many are assumed to be read at a time as can be
    written.
    """
    weights, nodes = Weights(store), list(planned.missing())
    sizes = {node.id: weights.products(node) for node in nodes}
    features = sorted((sizes[node.id] or 0 for node in nodes if node.stage == "features"), reverse=True)
    others = sum(sizes[node.id] or 0 for node in nodes if node.stage != "features") + RECORD * len(nodes)
    trained = sum(node.stage == "pretrain" and node.cell.method.trains for node in nodes)
    states = STATES * STATE * min(trained, _at_once(planned, profile, "pretrain"))
    passing = sum(features[: 2 * _at_once(planned, profile, "features")])
    unknown = sum(size is None for size in sizes.values())
    end = others + sum(features)
    return {True: Room(end, end + states, unknown), False: Room(others, others + passing + states, unknown)}


def _at_once(planned: Plan, profile: Profile, stage: str) -> int:
    """Return the largest number of nodes of a stage that are in progress at a time, counting all nodes of a task."""
    if profile.launcher == "local":
        return max(HERE, profile.stages.pretrain.packing)
    arrays = [array for array in planned.arrays if array.stage == stage]
    sizes = [sorted((len(task.nodes) for task in array.tasks), reverse=True) for array in arrays]
    return sum(sum(of_array[: profile.array_parallelism]) for of_array in sizes)


def features_bytes(planned: Plan, store: Store) -> int:
    """Return the estimated bytes of all features that a plan will write."""
    weights = Weights(store)
    return sum(weights.products(node) or 0 for node in planned.missing() if node.stage == "features")


def keeps(planned: Plan, profile: Profile, store: Store, budget: float | None = None) -> bool:
    """Return whether features are kept once all nodes that read them are done; `budget` is a local run's minutes."""
    if profile.launcher != "local" or profile.keep_features is not None:
        return profile.keep_features is not False
    return disk.keeps_features(None, store, budget, features_bytes(planned, store))


def lines(planned: Plan, profile: Profile, store: Store) -> list[str]:
    """Return the printed lines on the disk space that a plan needs and on what is free; none if nothing is missing."""
    if not planned.arrays:
        return []
    rooms, kept, free = needed(planned, profile, store), keeps(planned, profile, store), disk.free(store)
    unknown = rooms[kept].unknown
    without = f", without {unknown} nodes whose images are not prepared" if unknown else ""
    printed = [f"estimated disk space{without}:"]
    for keep, words in ((True, "features are kept"), (False, "features are dropped")):
        label = f"{words} (this plan)" if keep is kept else words
        printed.append(f"  {label:38}{said(rooms[keep].peak):>10} at the peak{said(rooms[keep].end):>10} in the end")
    return [*printed, f"  {'free on the disk of the store':38}{said(free):>10}{_advice(rooms, kept, free)}"]


def _advice(rooms: Mapping[bool, Room], kept: bool, free: int) -> str:
    """Return what to do if the peak does not fit into the free bytes; "" if it does."""
    if rooms[kept].peak <= free:
        return ""
    if kept and rooms[False].peak <= free:
        return ": too little; set keep_features: false in the profile, which makes it enough"
    return ": too little; `dae-ssl clean` lists what can be freed"
