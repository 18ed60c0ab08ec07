"""Show what an experiment needs, lacks, and will cost.

  dae-ssl plan methods --profile gpu4
  dae-ssl plan methods --profile gpu4 --only pretrain,features
  dae-ssl plan methods --profile gpu4 --trial

With --trial, the command first times a few training steps on the machine on which it runs. After the following two
commands, `plan` names the cheaper way to use the GPUs of a task:

  srun --gpus=4 torchrun --standalone --nproc-per-node=4 -m jobs plan methods --profile gpu4 --trial
  srun --gpus=1 dae-ssl plan methods --profile gpu4-packed --trial

Nothing is submitted.
"""

import argparse
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dae_ssl import config, experiments
from dae_ssl.cluster import queue, status, submissions
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.compute.nodes import NodeId, needed
from dae_ssl.compute.resources import Resources
from dae_ssl.config import ConfigError
from dae_ssl.planning import cost, plan, room
from dae_ssl.planning.cost import Way
from dae_ssl.planning.plan import Plan, Spot
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import grammar
from jobs.asked import Asked, add_experiment, experiment

USUAL_ARRAY_SIZE = 1001
"""SLURM's default, used if no cluster can be asked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment, the stages to plan, and `--trial`."""
    add_experiment(parser)
    add_only(parser)
    parser.add_argument("--trial", action="store_true",
                        help="first time a few training steps of each method on this machine")  # fmt: skip


def add_only(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--only`, which selects stages."""
    stages = grammar.several(grammar.one_of(config.STAGES), "pretrain,features")
    parser.add_argument("--only", type=stages, metavar="STAGE[,STAGE]",
                        help="plan only these stages, for example to pretrain on one cluster and evaluate on another: "
                        f"{', '.join(config.STAGES)}")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Print the plan."""
    asked = experiment(given)
    if given.trial:
        from dae_ssl.planning import trial

        for line in trial.run(asked.cells, asked.store, asked.profile.device):
            print(line)
        if os.environ.get("RANK", "0") != "0":
            return 0
    active, planned = planned_with_queue(asked)
    states = {id: status.word(asked.store, planned, id, active) for id in planned.wanted}
    print(f"experiment {asked.experiment.name}: {asked.experiment.question}")
    print(f"{len(asked.cells)} cells ({len(asked.floors)} of them floors), profile {asked.profile.name}, "
          f"store {asked.store.root}\n")  # fmt: skip
    if len(asked.sections) > 1:
        print_parts(asked, planned)
    print_nodes(asked, planned, states)
    print_arrays(planned)
    print_costs(planned, asked.profile, asked.store)
    print("".join(f"\n{line}" for line in room.lines(planned, asked.profile, asked.store)))
    if planned.arrays and (lacking := _unprepared(asked)):
        print(f"\nnot prepared in {asked.store.root}: {', '.join(lacking)}; see dae-ssl data --help")
    return 0


def planned_with_queue(asked: Asked) -> tuple[dict[NodeId, tuple[Spot, queue.Queued]], Plan]:
    """Return the nodes that SLURM has, and the plan; if SLURM cannot be asked, nothing is assumed to be queued."""
    try:
        active = queued(asked)
        return active, make(asked, active)
    except SlurmError as error:
        print(f"SLURM cannot be asked, so the plan assumes that nothing is queued ({str(error)[:60]}...)")
        size = asked.profile.array_size or USUAL_ARRAY_SIZE
        stages = plan.chosen(asked.options.get("only"))
        return {}, plan.make(asked.cells, asked.store, asked.profile, array_size=size, stages=stages)


def _unprepared(asked: Asked) -> list[str]:
    """Return the data sets that the cells read and that are not prepared in the store."""
    names = {name for cell in asked.cells for name in (cell.data.pretrain, cell.data.evaluate)}
    return sorted(name for name in names if asked.store.data(name).record() is None)


def make(asked: Asked, active: Mapping[NodeId, tuple[Spot, queue.Queued]]) -> Plan:
    """Return the plan, given the nodes that SLURM has. Raises SlurmError if SLURM's limits cannot be read."""
    slurm = asked.profile.launcher == "slurm" and queue.available()
    size = queue.array_size() if slurm else asked.profile.array_size or USUAL_ARRAY_SIZE
    stages = plan.chosen(asked.options.get("only"))
    return plan.make(asked.cells, asked.store, asked.profile, queued=spots(active), array_size=size, stages=stages)


def queued(asked: Asked) -> dict[NodeId, tuple[Spot, queue.Queued]]:
    """Return the nodes that SLURM has, none if the profile or this machine has no SLURM. Raises SlurmError."""
    if asked.profile.launcher != "slurm" or not queue.available():
        return {}
    return submissions.active(asked.store, queue.queue())


def spots(active: Mapping[NodeId, tuple[Spot, queue.Queued]]) -> dict[NodeId, Spot]:
    """Return the tasks of the nodes that SLURM has."""
    return {id: spot for id, (spot, _) in active.items()}


def print_parts(asked: Asked, planned: Plan) -> None:
    """Print how many pretraining runs each part needs for one seed, and how many it shares with the parts above it."""
    seeds, seen = len(asked.seeds), set[str]()
    print("pretraining runs for one seed: those that a part needs, those that it shares with parts above it, the new")
    print(f"ones, and the sum of the new ones so far; and the runs that are done, for all {seeds} seeds")
    print(f"{'':24}{'needs':>8}{'shared':>8}{'new':>8}{'sum':>8}{'done':>10}")
    for section in asked.sections:
        trained = {config.key(cell, "pretrain") for cell in section.every() if cell.method.trains}
        done = sum(("pretrain", key) in planned.done for key in trained)
        new = trained - seen
        seen |= trained
        counts = (len(trained), len(trained) - len(new), len(new), len(seen))
        columns = "".join(f"{_per(count, seeds):>8}" for count in counts)
        print(f"{section.name:24}{columns}{f'{done}/{len(trained)}':>10}")
    print()


def _per(count: int, seeds: int) -> str:
    """Return the mean count for one seed, which is not a whole number if the seeds have unequal numbers of cells."""
    return f"{count / seeds:g}" if count % seeds == 0 else f"{count / seeds:.1f}"


def print_nodes(asked: Asked, planned: Plan, states: dict[NodeId, str]) -> None:
    """Print the number of nodes of each stage in each state, and how many of them other experiments need too."""
    shared = needed(_other_cells(asked)).keys() & planned.wanted.keys()
    print(f"{'stage':10}{'nodes':>7}" + "".join(f"{word:>9}" for word in status.WORDS) + f"{'shared':>9}")
    for stage in config.STAGES:
        ids = [id for id in planned.wanted if id[0] == stage]
        counts = "".join(f"{sum(states[id] == word for id in ids):9}" for word in status.WORDS)
        print(f"{stage:10}{len(ids):7}{counts}{sum(id in shared for id in ids):9}")


def _other_cells(asked: Asked) -> list[config.Cell]:
    """Return the cells of all other experiments that the changed settings leave possible."""
    ours = {part.name for part in asked.experiment.parts} | {asked.experiment.name}
    cells = list[config.Cell]()
    for other in map(experiments.load, experiments.names()):
        if not other.parts and other.name not in ours:
            with contextlib.suppress(ConfigError):  # such as a checkpoint that it does not keep
                cells += [cell for section in other.sections(asked.seeds, asked.changes) for cell in section.every()]
    return cells


def print_arrays(planned: Plan) -> None:
    """Print the arrays that would be submitted, with their resources."""
    nothing = "" if planned.left() else ": nothing is missing"
    print(f"\n{len(planned.arrays)} arrays to submit" + (":" if planned.arrays else nothing))
    for array in planned.arrays:
        after = f", each after the same task of {array.after}" if array.after else ""
        print(f"  {array.name:14}{len(array.tasks):6} tasks  {_words(array.resources)}{after}")
    if left := planned.left():
        print(left)


def _words(resources: Resources) -> str:
    gpus = f"{resources.gpus_per_machine} GPUs" + (f" of type {resources.gpu_type}" if resources.gpu_type else "")
    parts = [f"{resources.machines} machines" if resources.machines > 1 else "", gpus,
             f"{resources.cpus_per_machine} CPUs", f"{resources.memory_gb:g} GB", f"{resources.minutes} min",
             f"{resources.packing} cells a task" if resources.packing > 1 else f"{resources.ranks} ranks"]  # fmt: skip
    return ", ".join(part for part in parts if part)


def print_costs(planned: Plan, profile: Profile, store: Store) -> None:
    """Print the estimated cost of the missing nodes with this profile, and the cheaper way to use its GPUs."""
    nodes = len(list(planned.missing()))
    if not nodes:
        return
    durations = cost.measured(store)
    total = cost.total(planned.arrays, profile, store, durations)
    hours = f"{total.gpu_hours:.2f} GPU-hours, and {total.machine_hours:.2f} machine-hours without GPUs"
    if total.gpu_hours + total.machine_hours == 0:
        hours = "unknown"
    unknown = f"; {total.unknown} of {nodes} nodes are not included, since none like them was timed"
    print(f"\nestimated cost, from the times of finished nodes and trials:\n  with this profile: {hours}"
          f"{unknown if total.unknown else ''}")  # fmt: skip
    kind = cost.device_type(profile, profile.stages.pretrain)
    if not durations[kind].per_image:
        print(f"  no pretraining has been timed on {kind}: --trial times a few steps on the machine where it runs")
    ways = cost.ways(planned, profile, store, durations)
    if len(ways) > 1:
        print_ways(ways, profile.array_parallelism, kind)


def print_ways(ways: Sequence[Way], parallel: int, kind: str) -> None:
    """Print the cost of pretraining in the profile's way and in the other way, and which is cheaper, and why."""
    unit = "GPU-hours" if ways[0].resources.gpus else "machine-hours"
    print(f"\n{'hours of pretraining':40}{unit:>14}{'longest cell':>14}{f'all, {parallel} tasks at a time':>26}")
    for way in ways:
        hours = (way.hours, max(way.seconds) / 3600, way.until_done(parallel)) if way.seconds else ()
        columns = [f"{value:.2f}" for value in hours] or ["unknown"] * 3
        mark = " (the profile's)" if way is ways[0] else ""
        print(f"  {f'{_called(way)}{mark}':38}{columns[0]:>14}{columns[1]:>14}{columns[2]:>26}")
    packed, shared = sorted(ways, key=lambda way: -way.resources.packing)
    print(f"  cheaper: {_cheaper(packed, shared, unit, kind)}")


def _called(way: Way) -> str:
    resources = way.resources
    return f"{resources.packing} cells side by side" if resources.packing > 1 else f"{resources.ranks} ranks a cell"


def _cheaper(packed: Way, shared: Way, unit: str, kind: str) -> str:
    """Return which way costs fewer hours, by how much and why, or what has to be timed to know it."""
    ranks = shared.resources.ranks
    if packed.seconds and shared.seconds:
        less, more = sorted((packed, shared), key=lambda way: way.hours)
        faster = sum(packed.seconds) / sum(shared.seconds)
        saved = more.hours - less.hours
        return (f"{_called(less)}, by {saved:.2f} {unit} or {100 * saved / more.hours:.0f} %. {ranks} ranks train a "
                f"cell {faster:.2f} times as fast as one, {100 * faster / ranks:.0f} % of {ranks} at full speed; "
                f"side by side, {100 * packed.busy:.0f} % of the GPU time is used")  # fmt: skip
    trials = {packed: "--trial in one process", shared: f"--trial under torchrun with {ranks} processes"}
    missing = [way for way in (packed, shared) if not way.seconds]
    times = " and ".join(trials[way] for way in missing)
    if len(missing) > 1:
        return f"unknown until both are timed on the machines of the cells: {times}"
    # How full the tasks are depends only on the ratios of the cells' lengths, which either way gives.
    full = replace(packed, seconds=packed.seconds or shared.seconds).busy
    return (f"unknown, since \"{_called(missing[0])}\" was never timed on {kind}: run {times} on a machine of the "
            f"cells. Side by side is cheaper unless {ranks} ranks train a cell over {ranks * full:.2f} times as fast "
            "as one")  # fmt: skip
