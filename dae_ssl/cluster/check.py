"""What of a profile will not work, told before anything is queued. Sends nothing and leaves nothing behind.

Each question is a function and each answer a line. Where SLURM's limits are read here, the reason is told in the
profile's words; then SLURM itself judges the very scripts that would be sent (`sbatch --test-only`), since no reading
of its configuration knows all that it does.
"""

import dataclasses
import getpass
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dae_ssl
from dae_ssl import config
from dae_ssl.cluster import queue
from dae_ssl.cluster.launch import Launch, script
from dae_ssl.cluster.machines import Cluster, Machine, Partition
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.cluster.snapshot import Source
from dae_ssl.compute import disk
from dae_ssl.compute.disk import said
from dae_ssl.compute.nodes import Task
from dae_ssl.compute.provenance import image_digest
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell, ConfigError
from dae_ssl.data import sets
from dae_ssl.files import StoreError, explained
from dae_ssl.planning import plan, room
from dae_ssl.planning.plan import Array, Plan
from dae_ssl.planning.profile import Profile, passed
from dae_ssl.store import Store
from dae_ssl.tracking import server

OK, WRONG, UNKNOWN = "ok", "will not work", "cannot be told"
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
RUNS_WITH = ("slurm/after_task.sh", "jobs/run_nodes.py")
"""What a task needs of the code beside the package; the first puts it into the queue again."""
OWN_DISKS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""Folders that each machine usually has for itself."""
FORGETFUL = {"-e", "--cleanenv", "-C", "--containall"}
"""Options of Apptainer that keep a task's environment from it."""
SECONDS = 10
"""How long the tracking server may take to answer."""


@dataclass(frozen=True)
class Finding:
    """One answer: what was looked at, one of OK, WRONG and UNKNOWN, and a line of words."""

    subject: str
    verdict: str
    message: str


def findings(profile: Profile, store: Store, cells: Sequence[Cell] = ()) -> Iterator[Finding]:
    """Yield an answer to each question as soon as it is found; `cells` add those about data and arrays."""
    yield written(store, local=profile.launcher == "local")
    yield from prepared(store, cells)
    if cells:
        yield roomy(profile, store, cells)
    if profile.launcher == "local":
        yield device_here(profile)
        return
    yield code(Path(dae_ssl.__file__).parents[1])
    yield from started(profile)
    yield from tracked(profile.tracking_uri)
    yield from slurm(profile, store, cells)


# ---------------------------------------------------------------------------------- files and programs


def written(store: Store, *, local: bool) -> Finding:
    """Tell whether the store can be written from here, and whether other machines are likely to see it."""
    root = store.root.resolve()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with explained(there), tempfile.TemporaryFile(dir=there):
            pass
    except StoreError as error:
        return Finding("store", WRONG, str(error))
    can = f"{root} can be {'written' if there == root else f'made in {there}'}"
    own = next((disk for disk in OWN_DISKS if root.is_relative_to(disk)), None)
    if local:
        return Finding("store", OK, can)
    if own is not None:
        return Finding("store", UNKNOWN, f"{can}, but {own} is mostly a disk of this machine alone: nodes must see it")
    return Finding("store", OK, f"{can} from here; compute nodes must see it under the same path")


def prepared(store: Store, cells: Sequence[Cell]) -> Iterator[Finding]:
    """Tell what the prepared data sets lack for some cells, each reason once."""
    reasons: dict[str, int] = {}
    for cell in cells:
        try:
            sets.require_fits(store, cell)
        except (StoreError, ConfigError) as error:
            reasons[str(error)] = reasons.get(str(error), 0) + 1
    for reason, count in reasons.items():
        yield Finding("data", WRONG, f"{reason} ({count} of {len(cells)} cells)")
    if cells and not reasons:
        yield Finding("data", OK, f"prepared for all of {len(cells)} cells")


def roomy(profile: Profile, store: Store, cells: Sequence[Cell]) -> Finding:
    """Tell whether what the cells lack fits the disk; a quota may be less than what it has free."""
    planned = plan.make(cells, store, profile, queued={}, array_size=10**9)
    needed, there = room.needed(planned, profile, store)[room.keeps(planned, profile, store)], disk.free(store)
    drops = "set keep_features: false in the profile, or " if room.keeps(planned, profile, store) else ""
    told = f"{said(needed.peak)} at the peak and {said(needed.end)} in the end, and {said(there)} are free"
    if needed.peak <= there:
        return Finding("disk", UNKNOWN if needed.unknown else OK, told)
    verdict = WRONG if needed.end > there else UNKNOWN  # that all tasks are at work at the same time is not certain
    return Finding("disk", verdict, f"{told}: {drops}free some, as `dae-ssl clean` tells, or choose another store")


def device_here(profile: Profile) -> Finding:
    """Tell whether this machine has the GPUs that a local profile's ranks need."""
    import torch

    pretrain, gpus = profile.stages.pretrain, torch.cuda.device_count()
    if pretrain.machines > 1:
        return Finding(
            "device", WRONG, f"stages.pretrain.machines={pretrain.machines}: launcher local has this machine only"
        )
    if profile.device == "cpu" or (profile.device == "auto" and gpus == 0):
        return Finding("device", OK, "the CPU")
    needed = pretrain.ranks_per_machine
    told = f"{needed} ranks, each on a GPU of its own, and this machine has {gpus} GPUs"
    if gpus < needed:
        return Finding("device", WRONG, f"{profile.device}: {told}: choose device cpu or fewer ranks_per_machine")
    return Finding("device", OK, told)


def code(root: Path) -> Finding:
    """Tell whether what tasks run besides the package lies beside it, to be taken into their snapshot."""
    missing = [name for name in RUNS_WITH if not (root / name).is_file()]
    if missing:
        return Finding("code", WRONG, f"{', '.join(missing)} is not in {root}: run this from a checkout of the project")
    return Finding("code", OK, f"{root}, of which each submission takes a snapshot")


def started(profile: Profile) -> Iterator[Finding]:
    """Tell whether image, container command and Python are there, as far as this machine can tell."""
    search = passed(profile).get("PATH")
    if profile.image is not None:
        there = image_digest(profile.image) or Path(profile.image).is_file()
        advice = "build it, or correct `image` in the profile: a file, or NAME@sha256:..."
        yield Finding(
            "image", OK if there else WRONG, profile.image if there else f"{profile.image} is no file: {advice}"
        )
    if profile.container:
        if profile.image is None:
            yield Finding("image", UNKNOWN, "the profile names none: commit records will not tell what cells ran in")
        if lost := FORGETFUL.intersection(profile.container):
            told = f"with {', '.join(sorted(lost))} tasks lack the variables that tell them what to do: leave it out"
            yield Finding("container", WRONG, told)
        command = profile.container[0]
        found = shutil.which(command, path=search)
        told = found or f"{command} is not on the PATH here: nodes must have it, or `setup` must load it"
        yield Finding("container", OK if found else UNKNOWN, told)
        return
    python = profile.python or sys.executable
    found = shutil.which(python, path=search)
    if found is None and Path(python).is_absolute():
        yield Finding("python", WRONG, f"{python} is not an executable file: correct `python` in the profile")
    else:
        told = found or f"{python} is not on the PATH here: nodes must have it, or `setup` must load it"
        yield Finding("python", OK if found else UNKNOWN, told)


def tracked(uri: str | None) -> Iterator[Finding]:
    """Tell whether the tracking server answers here, and takes the name and password of this environment."""
    if uri is None:
        return
    scheme = uri.rpartition("://")[0]
    if scheme.lower() not in ("http", "https"):
        told = f"{scheme or 'a file'} is no server that can be asked: nodes must reach it as it stands"
        yield Finding("tracking", UNKNOWN, told)
        return
    try:
        with server.settings(SECONDS):
            server.client(uri)
    except server.AwayError as error:
        yield Finding("tracking", WRONG, str(error))
    else:
        yield Finding("tracking", OK, f"{server.address(uri)} answers here and lets you in; nodes must reach it too")


# ---------------------------------------------------------------------------------- what SLURM makes of the profile


def slurm(profile: Profile, store: Store, cells: Sequence[Cell]) -> Iterator[Finding]:
    """Tell whether SLURM would take and could run what the profile asks for."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        advice = "submit from where SLURM is, or choose profile=local"
        yield Finding("SLURM", WRONG, f"{', '.join(missing)} is not on this machine: {advice}")
        return
    try:
        cluster, size = Cluster.asked(), queue.array_size()
    except SlurmError as error:
        yield Finding("SLURM", WRONG, str(error))
        return
    told = f"cluster {cluster.settings.get('ClusterName')}, version {cluster.settings.get('SLURM_VERSION')}, answers"
    yield Finding("SLURM", OK, told)
    planned = plan.make(cells, store, profile, queued={}, array_size=size)
    arrays = would_send(planned, profile)
    yield from listed(profile, cluster, arrays)
    yield from charged(profile, cluster)
    yield from split(planned, profile, size)
    for stage, sent in arrays.items():
        if cluster.chosen(_partition(stage, profile)):  # that it is unknown is told already
            fit = fits(stage, profile, cluster)
            yield fit
            yield judged(stage, sent, profile, store, waits=fit.verdict == UNKNOWN)


def would_send(planned: Plan, profile: Profile) -> dict[str, list[Array]]:
    """Return the arrays of each stage; for a stage that lacks nothing, and for all without cells, one single task."""
    stages = {stage for stage, _ in planned.wanted} or config.STAGES
    arrays = {stage: [a for a in planned.arrays if a.stage == stage] for stage in config.STAGES if stage in stages}
    for stage, sent in arrays.items():
        if not sent:
            sent.append(Array(f"{stage}-0", stage, profile.resources(stage), (Task(0, ()),)))
    return arrays


def _partition(stage: str, profile: Profile) -> str | None:
    return profile.resources(stage).partition or profile.partition


def listed(profile: Profile, cluster: Cluster, stages: Iterable[str]) -> Iterator[Finding]:
    """Tell whether each partition that the profile names is there and up."""
    known = ", ".join(cluster.partitions)
    refuses = f"and takes no jobs: choose one that is up of {known}"
    states = {"UP": (OK, "up"), "DOWN": (UNKNOWN, "down: tasks wait until it is up")}
    named = [_partition(stage, profile) for stage in stages]
    if None in named and not cluster.chosen(None):
        yield Finding("partition", WRONG, f"none is given, and the cluster has no default: choose {known}")
    for name in dict.fromkeys(part for several in named if several for part in several.split(",")):
        if name not in cluster.partitions:
            yield Finding("partition", WRONG, f"{name} is unknown: choose {known}")
            continue
        state = cluster.partitions[name].state
        verdict, told = states.get(state, (WRONG, f"{state.lower()} {refuses}"))
        yield Finding("partition", verdict, f"{name} is {told}")


def charged(profile: Profile, cluster: Cluster) -> Iterator[Finding]:
    """Tell whether this user has the account and QOS, where accounting knows it."""
    wanted = {"account": profile.account, "qos": profile.qos}
    if not any(wanted.values()):
        return
    user, rows, reason = getpass.getuser(), None, "cannot be told without accounting"
    if cluster.settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}"]
        try:
            rows = [line.split("|") for line in queue.ask([*command, "format=Account,QOS"]).splitlines()]
        except SlurmError as error:
            reason = str(error)
    enforced = cluster.settings.get("AccountingStorageEnforce", "").split(",")
    for number, (subject, name) in enumerate(wanted.items()):
        if name is None:
            continue
        if rows is None:
            yield Finding(subject, UNKNOWN, f"{name}: {reason}")
            continue
        known = {value for row in rows for value in row[number].split(",") if value}
        told = f"{user} has no {subject} {name} (has: {', '.join(sorted(known)) or 'none'})"
        insists = ("associations" if subject == "account" else "qos") in enforced
        if name in known:
            yield Finding(subject, OK, name)
        elif insists:
            yield Finding(subject, WRONG, told)
        else:
            yield Finding(subject, UNKNOWN, f"{told}, but this cluster does not insist on it")


def split(planned: Plan, profile: Profile, size: int) -> Iterator[Finding]:
    """Tell whether the profile's arrays are larger than the cluster's, and into how many arrays a plan's tasks go."""
    if profile.array_size is not None and profile.array_size > size:
        told = f"{profile.array_size} is more than MaxArraySize of this cluster: choose null or at most {size}"
        yield Finding("array_size", WRONG, told)
    tasks: dict[str, list[int]] = {}
    for array in planned.arrays:
        tasks.setdefault(array.stage, []).append(len(array.tasks))
    if planned.wanted:
        counts = [f"{stage} {sum(sizes)} tasks in {len(sizes)} arrays" for stage, sizes in tasks.items()]
        told = f"{', '.join(counts)}, of at most {min(size, profile.array_size or size)}"
        yield Finding("arrays", OK, told if counts else "nothing is missing")


def fits(stage: str, profile: Profile, cluster: Cluster) -> Finding:
    """Tell whether a stage's tasks fit the nodes and limits of its partition, or of one of several; all are known."""
    asked = profile.resources(stage)
    subject = f"stage {stage}"
    if profile.device == "cuda" and asked.gpus_per_machine == 0:
        return Finding(
            subject, WRONG, f"device cuda, and stages.{stage}.gpus_per_machine=0: choose at least 1, or auto"
        )
    tried = [_fits(subject, asked, each, cluster.machines) for each in cluster.chosen(_partition(stage, profile))]
    return min(tried, key=lambda finding: (OK, UNKNOWN, WRONG).index(finding.verdict))  # SLURM takes the one that fits


def _fits(subject: str, asked: Resources, partition: Partition, machines: Iterable[Machine]) -> Finding:
    """Tell whether a task fits one partition, and if not, which of its wishes is too large."""
    own = [machine for machine in machines if partition.name in machine.partitions]
    needs = asked.gpus_per_machine, asked.cpus_per_machine, round(asked.memory_gb * 1024)
    has = [(machine.gpus, machine.cpus, machine.memory_mb) for machine in own]
    units = "GPUs on a node", "CPUs on a node", "MB of memory on a node"
    most = [max(column) for column in zip(*has, strict=True)] or [0, 0, 0]
    wishes = [*zip(units, needs, most, strict=True), ("minutes", asked.minutes, partition.minutes),
              ("nodes", asked.machines, min(partition.nodes, len(own)))]  # fmt: skip
    for unit, wish, limit in wishes:
        if wish > limit:
            return Finding(
                subject, WRONG, f"asks for {wish} {unit}; partition {partition.name} has {limit:.0f} at most"
            )
    fitting = [m for m, parts in zip(own, has, strict=True) if all(n <= p for n, p in zip(needs, parts, strict=True))]
    words = ", ".join(f"{need} {unit}" for unit, need in zip(units, needs, strict=True))
    if len(fitting) < asked.machines:
        lacks = f"{len(fitting)} nodes of partition {partition.name} have all of {words}; a task needs {asked.machines}"
        return Finding(subject, WRONG, lacks)
    up = sum(machine.up for machine in fitting if partition.state == "UP")
    told = f"fits {len(fitting)} nodes of partition {partition.name}"
    if up < asked.machines:
        return Finding(subject, UNKNOWN, f"{told}, of which {up} are up now: its tasks wait")
    return Finding(subject, OK, told if up == len(fitting) else f"{told}, of which {up} are up now")


def judged(stage: str, arrays: Sequence[Array], profile: Profile, store: Store, *, waits: bool) -> Finding:
    """Have SLURM say whether it would take the scripts of a stage, without their dependencies.

    `waits` says that too few nodes are up: then SLURM refuses in a test what it would leave waiting in earnest.
    """
    sketch = Launch(store.launch("check"), {"experiment": "check", **dataclasses.asdict(Source("check", None, None))})
    shapes = {(array.resources, array.indices()): array for array in arrays}
    subject, said = f"sbatch {stage}", ""
    for array in shapes.values():
        try:
            done = subprocess.run(
                ["sbatch", "--test-only"], input=script(sketch, array, None, store, profile).text(), text=True,
                capture_output=True, timeout=60, check=False, env=passed(profile),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return Finding(subject, UNKNOWN, f"sbatch cannot be asked: {error}")
        lines = re.sub(r"^(sbatch: )?((error|allocation failure): )?", "", done.stderr.strip(), flags=re.MULTILINE)
        said = "; ".join(lines.splitlines())
        if done.returncode != 0:
            if waits and re.search(r"configuration is not available|nodes are busy|DOWN, DRAINED", said):
                return Finding(subject, UNKNOWN, f"while nodes are down SLURM tells no more than: {said}")
            return Finding(subject, WRONG, f"SLURM refuses {array.name}: {said}")
    start = re.search(r"to start at (\S+)", said)
    return Finding(subject, OK, "SLURM takes it" + (f"; it would start at {start[1]}" if start else ""))
