"""Cells -> the nodes they need, what is there already, and the arrays that would compute the rest. Sends nothing.

A node that several cells share is planned once. A node whose parent is still to come stands in an array that follows
its parent's, at the parent's index, so that SLURM can pair them task by task (`aftercorr`); where a parent has several
children there are several such arrays. Children of finished parents wait for nothing.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from dae_ssl import config
from dae_ssl.compute.nodes import Node, NodeId, Task, committed, counted, for_their_readers, left_in_words, needed
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell, require
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Spot:
    """A task of an array, sent or about to be."""

    array: str
    """The name of an array of this plan, or the id of one that SLURM has."""
    index: int


@dataclass(frozen=True)
class Array:
    """One SLURM array: a stage, the resources of each task, and the array its tasks follow."""

    name: str
    stage: str
    resources: Resources
    tasks: tuple[Task, ...]
    after: str | None = None

    def indices(self) -> str:
        """Return its indices as sbatch takes them, `0-3,7`."""
        runs: list[list[int]] = []
        for index in sorted(task.index for task in self.tasks):
            if runs and index == runs[-1][-1] + 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@dataclass(frozen=True)
class Plan:
    """The nodes of some cells, which of them are done or on their way, and the arrays that would compute the rest."""

    wanted: Mapping[NodeId, Node]
    done: frozenset[NodeId]
    queued: frozenset[NodeId]
    arrays: tuple[Array, ...]
    stages: frozenset[str] = frozenset(config.STAGES)
    """Those that were to be planned."""

    def missing(self) -> Iterator[Node]:
        """Yield the nodes that would be computed, in order of stages."""
        return (node for array in self.arrays for task in array.tasks for node in task.nodes)

    def left(self) -> str:
        """Return in a line how many missing nodes are not planned and why; "" where all are."""
        planned = {node.id for node in self.missing()}
        left = [id[0] for id in self.wanted if id not in planned | self.done | self.queued]
        return left_in_words(left, self.stages)


def chosen(only: object) -> frozenset[str]:
    """Return the stages that `--only` names, one or several; all of them for None. Raises ConfigError."""
    names = config.STAGES if only is None else only if isinstance(only, list) else [only]
    known = bool(names) and all(name in config.STAGES for name in names)
    require(known, "--only", only, f"{', '.join(config.STAGES)}, or several, as in pretrain,features")
    return frozenset(map(str, names))


def make(
    cells: Iterable[Cell],
    store: Store,
    profile: Profile,
    *,
    queued: Mapping[NodeId, Spot] | None = None,
    array_size: int = sys.maxsize,
    stages: Collection[str] = config.STAGES,
) -> Plan:
    """Plan the nodes of some stages that are neither done nor queued.

    `queued` says where SLURM has nodes already, if it has any. `array_size` is MaxArraySize of the cluster, one more
    than the largest index; a smaller one of the profile is kept to. A node whose parent is neither there nor on its way
    is not planned.
    """
    wanted = needed(cells)
    records = committed(wanted, store)
    there = counted(wanted, records)
    wanted = for_their_readers(wanted, there, records)
    waiting = {id: spot for id, spot in (queued or {}).items() if id in wanted and id not in there}
    size = min(array_size, profile.array_size or array_size)
    arrays: list[Array] = []
    spots = dict(waiting)
    for stage in config.STAGES:
        reads = {None} | there | spots.keys()
        missing = [
            node for id, node in wanted.items()
            if id[0] == stage in stages and id not in there and id not in waiting and node.parent in reads
        ]  # fmt: skip
        free = _free(missing, spots, profile, size)
        for number, array in enumerate((*free, *_following(missing, spots, profile))):
            arrays.append(replace(array, name=f"{stage}-{number}"))
            spots |= {node.id: Spot(arrays[-1].name, task.index) for task in array.tasks for node in task.nodes}
    return Plan(wanted, there, frozenset(waiting), tuple(arrays), frozenset(stages))


def needs(node: Node, profile: Profile) -> Resources:
    """Return the resources that a node's task asks for; an encoder that is not trained needs no more than features."""
    trains = node.stage != "pretrain" or node.cell.method.trains
    return profile.resources(node.stage if trains else "features")


def _free(missing: Sequence[Node], spots: Mapping[NodeId, Spot], profile: Profile, size: int) -> list[Array]:
    """Return the arrays of nodes that wait for no other, one for each shape of resources, split at `size`."""
    shapes: dict[Resources, list[Node]] = {}
    for node in missing:
        if node.parent not in spots:
            shapes.setdefault(needs(node, profile), []).append(node)
    arrays: list[Array] = []
    for resources, free in shapes.items():
        for tasks in _batched(_batched(free, resources.packing), size):
            numbered = tuple(Task(index, tuple(packed)) for index, packed in enumerate(tasks))
            arrays.append(Array("", numbered[0].nodes[0].stage, resources, numbered))
    return arrays


def _following(missing: Sequence[Node], spots: Mapping[NodeId, Spot], profile: Profile) -> list[Array]:
    """Return the arrays of nodes whose parents are on their way: the n-th child of every parent, at its index."""
    rounds: dict[tuple[str, int], dict[int, list[Node]]] = {}
    born: dict[NodeId, int] = {}
    for node in missing:
        if node.parent is not None and node.parent in spots:
            number = born.get(node.parent, 0)
            born[node.parent] = number + 1
            spot = spots[node.parent]
            rounds.setdefault((spot.array, number), {}).setdefault(spot.index, []).append(node)
    arrays: list[Array] = []
    for (after, _), by_index in rounds.items():
        tasks = tuple(Task(index, tuple(by_index[index])) for index in sorted(by_index))
        stage = tasks[0].nodes[0].stage
        # The children of packed cells share a task as their parents did, and are computed one after another.
        arrays.append(Array("", stage, profile.resources(stage), tasks, after))
    return arrays


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
