"""The room on a disk that a plan will need, at its peak and in the end, with and without the features of its cells.

Products are taken to be as large as those of a finished node of the same kind; where there is none, what is known of
them is counted: images by numbers for features, parameters for encoders.
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
"""Parameters of the encoder (Table 3), and about those of projector and decoder with embeddings of 64 numbers."""
PICTURES = 16 * 5 * 3 * 32 * 32
"""Bytes of the example pictures of an epoch."""
STATE = 4 * 3 * (ENCODER + OTHERS)
"""Bytes of a rolling state: the parameters, and two moments of each."""
STATES = 3
"""Rolling states of a training at a time, while the newest is written."""
RECORD = 20_000
"""About the bytes of a node's record and log, and of what else is small."""
SAMPLE = 5
"""Finished nodes of a kind that are looked at."""
HERE = 4
"""Nodes at the same time that a run on this machine is taken to compute."""


@dataclass(frozen=True)
class Room:
    """Bytes that a plan needs beside what is there: in the end, and at most while it is computed."""

    end: int
    peak: int
    unknown: int
    """Nodes whose images are not prepared, so that nothing is known of their products; they count nothing."""


class Weights:
    """What the products of nodes weigh, learned from a store when first asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Hashable, list[int]] = {}
        self._unread = {stage: sorted(store.keys(stage)) for stage in config.STAGES}

    def products(self, node: Node) -> int | None:
        """Return the bytes of a node's products; None where its images are not prepared."""
        settings = config.stage_settings(node.cell, node.stage)
        like = self._like(node.stage, _kind(node.stage, settings))
        return round(statistics.median(like)) if like else self._counted(node.stage, settings)

    def _like(self, stage: str, kind: Hashable) -> list[int]:
        """Return what finished nodes of a kind weigh, as many as are enough, reading no more records than needed."""
        while len(self._known.get(kind, ())) < SAMPLE and self._unread[stage]:
            record = self._store.node(stage, self._unread[stage].pop()).record()
            if record is not None:
                every = record["products"] | record.get(LEFT_BEHIND, {})
                weight = sum(facts["bytes"] for facts in every.values())
                self._known.setdefault(_kind(stage, record.get("settings", {})), []).append(weight)
        return self._known.get(kind, [])

    def _counted(self, stage: str, settings: Mapping[str, Any]) -> int | None:
        """Return what is known of products that no finished node has the like of."""
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
    """Return what decides the size of a node's products, from its settings."""
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


# ---------------------------------------------------------------------------------- of a plan


def needed(planned: Plan, profile: Profile, store: Store) -> dict[bool, Room]:
    """Return the room that a plan needs where features are kept (True), and where they are dropped (False).

    Dropped ones are there while they are written and read; as many are taken to be read as can be written at a time.
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
    """Return how many nodes of a stage are under way at a time at most; all of a task are begun before it ends."""
    if profile.launcher == "local":
        return max(HERE, profile.stages.pretrain.packing)
    arrays = [array for array in planned.arrays if array.stage == stage]
    sizes = [sorted((len(task.nodes) for task in array.tasks), reverse=True) for array in arrays]
    return sum(sum(of_array[: profile.array_parallelism]) for of_array in sizes)


def features_bytes(planned: Plan, store: Store) -> int:
    """Return the bytes of all features that a plan will write."""
    weights = Weights(store)
    return sum(weights.products(node) or 0 for node in planned.missing() if node.stage == "features")


def keeps(planned: Plan, profile: Profile, store: Store, budget: float | None = None) -> bool:
    """Tell whether a plan's features stay when all that reads them is done; `budget` is a local run's minutes."""
    if profile.launcher != "local" or profile.keep_features is not None:
        return profile.keep_features is not False
    return disk.keeps_features(None, store, budget, features_bytes(planned, store))


def lines(planned: Plan, profile: Profile, store: Store) -> list[str]:
    """Return what a plan needs of the disk and what is free there, for people; nothing where nothing is missing."""
    if not planned.arrays:
        return []
    rooms, kept, there = needed(planned, profile, store), keeps(planned, profile, store), disk.free(store)
    unknown = rooms[kept].unknown
    without = f", without {unknown} nodes whose images are not prepared" if unknown else ""
    printed = [f"disk, as products of the same kind weigh or are counted{without}:"]
    for keep, words in ((True, "features are kept"), (False, "features are dropped")):
        called = f"{words} (as it is now)" if keep is kept else words
        printed.append(f"  {called:38}{said(rooms[keep].peak):>10} at its peak{said(rooms[keep].end):>10} in the end")
    return [*printed, f"  {'free on the disk of the store':38}{said(there):>10}{_advice(rooms, kept, there)}"]


def _advice(rooms: Mapping[bool, Room], kept: bool, there: int) -> str:
    """Return what to do where the peak does not fit."""
    if rooms[kept].peak <= there:
        return ""
    if kept and rooms[False].peak <= there:
        return ": too little; keep_features: false in the profile drops features, and then it is enough"
    return ": too little; `dae-ssl clean` says what can be freed"
