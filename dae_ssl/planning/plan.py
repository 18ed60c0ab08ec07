"""Turn cells into the nodes they need, and the missing nodes into arrays. Nothing here submits a job.

A node that several cells share is planned once. A node whose parent is not finished goes into an array that follows
the parent's array, at the parent's index, so that SLURM can pair them task by task (`aftercorr`); a parent with several
children has several such arrays. The children of finished parents wait for nothing.
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
    """A task of an array, whether it has been submitted or only planned."""

    array: str
    """The name of a planned array, or SLURM's id of a submitted one."""
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
        """Return the indices of its tasks in sbatch's notation, such as `0-3,7`."""
        runs: list[list[int]] = []
        for index in sorted(task.index for task in self.tasks):
            if runs and index == runs[-1][-1] + 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@dataclass(frozen=True)
class Plan:
    """The nodes that cells need, which of them are done or queued, and the arrays that would compute the others."""

    wanted: Mapping[NodeId, Node]
    done: frozenset[NodeId]
    queued: frozenset[NodeId]
    arrays: tuple[Array, ...]
    stages: frozenset[str] = frozenset(config.STAGES)
    """The stages that were planned."""

    def missing(self) -> Iterator[Node]:
        """Yield the nodes that the arrays would compute, in the order of the stages."""
        return (node for array in self.arrays for task in array.tasks for node in task.nodes)

    def left(self) -> str:
        """Return one line on how many missing nodes are not planned, and why; "" if all are planned."""
        planned = {node.id for node in self.missing()}
        left = [id[0] for id in self.wanted if id not in planned | self.done | self.queued]
        return left_in_words(left, self.stages)


def chosen(only: object) -> frozenset[str]:
    """Return the stages that `--only` names, or all of them for None. Raises ConfigError for an unknown stage."""
    names = config.STAGES if only is None else only if isinstance(only, list) else [only]
    known = bool(names) and all(name in config.STAGES for name in names)
    require(known, "--only", only, f"one or several of {', '.join(config.STAGES)}, such as pretrain,features")
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
    """Plan the nodes of the given stages that are neither done nor queued.

    `queued` maps the nodes that SLURM has to their tasks. `array_size` is the cluster's MaxArraySize, which is one more
    than the largest index; a smaller `array_size` of the profile takes precedence. A node whose parent is neither done,
    queued nor planned is left out.
    """
    wanted = needed(cells)
    records = committed(wanted, store)
    done = counted(wanted, records)
    wanted = for_their_readers(wanted, done, records)
    waiting = {id: spot for id, spot in (queued or {}).items() if id in wanted and id not in done}
    size = min(array_size, profile.array_size or array_size)
    arrays: list[Array] = []
    spots = dict(waiting)
    for stage in config.STAGES:
        parents = {None} | done | spots.keys()
        missing = [
            node for id, node in wanted.items()
            if id[0] == stage in stages and id not in done and id not in waiting and node.parent in parents
        ]  # fmt: skip
        free = _free(missing, spots, profile, size)
        for number, array in enumerate((*free, *_following(missing, spots, profile))):
            arrays.append(replace(array, name=f"{stage}-{number}"))
            spots |= {node.id: Spot(arrays[-1].name, task.index) for task in array.tasks for node in task.nodes}
    return Plan(wanted, done, frozenset(waiting), tuple(arrays), frozenset(stages))


def needs(node: Node, profile: Profile) -> Resources:
    """Return the resources of a node's task; an encoder that is not trained needs only those of features."""
    trains = node.stage != "pretrain" or node.cell.method.trains
    return profile.resources(node.stage if trains else "features")


def _free(missing: Sequence[Node], spots: Mapping[NodeId, Spot], profile: Profile, size: int) -> list[Array]:
    """Return the arrays of the nodes that wait for no other: one for each kind of resources, split at `size` tasks."""
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
    """Return the arrays of the nodes whose parents are in an array; the n-th has each parent's n-th child."""
    rounds: dict[tuple[str, int], dict[int, list[Node]]] = {}
    children: dict[NodeId, int] = {}
    for node in missing:
        if node.parent is not None and node.parent in spots:
            number = children.get(node.parent, 0)
            children[node.parent] = number + 1
            spot = spots[node.parent]
            rounds.setdefault((spot.array, number), {}).setdefault(spot.index, []).append(node)
    arrays: list[Array] = []
    for (after, _), by_index in rounds.items():
        tasks = tuple(Task(index, tuple(by_index[index])) for index in sorted(by_index))
        stage = tasks[0].nodes[0].stage
        # The children of packed cells share a task, as their parents do, but are computed one after another.
        arrays.append(Array("", stage, profile.resources(stage), tasks, after))
    return arrays


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
