"""Check that SLURM would accept and could run what a profile asks for. The checks submit no job.

First the profile is compared with SLURM's limits, so that a refusal is explained in the profile's terms. Then SLURM
itself tests the scripts that would be submitted (`sbatch --test-only`), since its configuration does not show all of
its rules.
"""

import dataclasses
import getpass
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from dae_ssl import config
from dae_ssl.cluster import queue
from dae_ssl.cluster.finding import OK, UNKNOWN, WRONG, Finding
from dae_ssl.cluster.launch import script
from dae_ssl.cluster.machines import Cluster, Machine, Partition
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.cluster.snapshot import Source
from dae_ssl.cluster.submissions import Launch
from dae_ssl.compute.nodes import Task
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell
from dae_ssl.planning import plan
from dae_ssl.planning.plan import Array, Plan
from dae_ssl.planning.profile import Profile, passed
from dae_ssl.store import Store

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")


def slurm(profile: Profile, store: Store, cells: Sequence[Cell]) -> Iterator[Finding]:
    """Check that SLURM would accept and could run what the profile asks for."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        advice = "submit from a machine that has SLURM, or choose --profile local"
        yield Finding("SLURM", WRONG, f"{', '.join(missing)} is not on this machine: {advice}")
        return
    try:
        cluster, size = Cluster.asked(), queue.array_size()
    except SlurmError as error:
        yield Finding("SLURM", WRONG, str(error))
        return
    name, version = cluster.settings.get("ClusterName"), cluster.settings.get("SLURM_VERSION")
    yield Finding("SLURM", OK, f"cluster {name}, version {version}, answers")
    planned = plan.make(cells, store, profile, array_size=size)
    arrays = would_send(planned, profile)
    yield from listed(profile, cluster, arrays)
    yield from charged(profile, cluster)
    yield from split(planned, profile, size)
    for stage, sent in arrays.items():
        if cluster.chosen(_partition(stage, profile)):  # an unknown partition is reported already
            fit = fits(stage, profile, cluster)
            yield fit
            yield judged(stage, sent, profile, store, waits=fit.verdict == UNKNOWN)


def would_send(planned: Plan, profile: Profile) -> dict[str, list[Array]]:
    """Return the arrays of each stage, and an array of one task for a stage for which nothing is planned."""
    stages = {stage for stage, _ in planned.wanted} or config.STAGES
    arrays = {stage: [a for a in planned.arrays if a.stage == stage] for stage in config.STAGES if stage in stages}
    for stage, sent in arrays.items():
        if not sent:
            sent.append(Array(f"{stage}-0", stage, profile.resources(stage), (Task(0, ()),)))
    return arrays


def _partition(stage: str, profile: Profile) -> str | None:
    return profile.resources(stage).partition or profile.partition


def listed(profile: Profile, cluster: Cluster, stages: Iterable[str]) -> Iterator[Finding]:
    """Check that each partition that the profile names exists and is up."""
    known = ", ".join(cluster.partitions)
    refuses = f"and takes no jobs: choose another one of {known}"
    states = {"UP": (OK, "up"), "DOWN": (UNKNOWN, "down: tasks wait until it is up")}
    named = [_partition(stage, profile) for stage in stages]
    if None in named and not cluster.chosen(None):
        yield Finding("partition", WRONG, f"the profile names none and the cluster has no default: choose {known}")
    for name in dict.fromkeys(part for several in named if several for part in several.split(",")):
        if name not in cluster.partitions:
            yield Finding("partition", WRONG, f"{name} is unknown: choose {known}")
            continue
        state = cluster.partitions[name].state
        verdict, condition = states.get(state, (WRONG, f"{state.lower()} {refuses}"))
        yield Finding("partition", verdict, f"{name} is {condition}")


def charged(profile: Profile, cluster: Cluster) -> Iterator[Finding]:
    """Check that this user has the account and QOS, if the cluster has accounting."""
    wanted = {"account": profile.account, "qos": profile.qos}
    if not any(wanted.values()):
        return
    user, rows, reason = getpass.getuser(), None, "this cannot be checked without accounting"
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
        lacks = f"{user} has no {subject} {name} (has: {', '.join(sorted(known)) or 'none'})"
        insists = ("associations" if subject == "account" else "qos") in enforced
        if name in known:
            yield Finding(subject, OK, name)
        elif insists:
            yield Finding(subject, WRONG, lacks)
        else:
            yield Finding(subject, UNKNOWN, f"{lacks}, but this cluster does not enforce it")


def split(planned: Plan, profile: Profile, size: int) -> Iterator[Finding]:
    """Check the profile's array size against the cluster's, and count the arrays of a plan."""
    if profile.array_size is not None and profile.array_size > size:
        excess = f"{profile.array_size} is more than MaxArraySize of this cluster: choose null or at most {size}"
        yield Finding("array_size", WRONG, excess)
    tasks: dict[str, list[int]] = {}
    for array in planned.arrays:
        tasks.setdefault(array.stage, []).append(len(array.tasks))
    if planned.wanted:
        counts = [f"{stage} {sum(sizes)} tasks in {len(sizes)} arrays" for stage, sizes in tasks.items()]
        limit = f"each array has at most {min(size, profile.array_size or size)} tasks"
        yield Finding("arrays", OK, f"{', '.join(counts)}; {limit}" if counts else "nothing is missing")


def fits(stage: str, profile: Profile, cluster: Cluster) -> Finding:
    """Check that a stage's tasks fit the machines and limits of its partition, or of one of its partitions."""
    asked = profile.resources(stage)
    subject = f"stage {stage}"
    if profile.device == "cuda" and asked.gpus_per_machine == 0:
        advice = "ask for at least 1, or choose device auto"
        return Finding(subject, WRONG, f"device cuda needs GPUs, but stages.{stage}.gpus_per_machine=0: {advice}")
    tried = [_fits(subject, asked, each, cluster.machines) for each in cluster.chosen(_partition(stage, profile))]
    return min(tried, key=lambda finding: (OK, UNKNOWN, WRONG).index(finding.verdict))  # SLURM takes the one that fits


def _fits(subject: str, asked: Resources, partition: Partition, machines: Iterable[Machine]) -> Finding:
    """Check that a task fits one partition, and if it does not, name the request that is too large."""
    members = [machine for machine in machines if partition.name in machine.partitions]
    needs = asked.gpus_per_machine, asked.cpus_per_machine, round(asked.memory_gb * 1024)
    has = [(machine.count(asked.gpu_type), machine.cpus, machine.memory_mb) for machine in members]
    gpus = "GPUs" if asked.gpu_type is None else f"GPUs of type {asked.gpu_type}"
    units = f"{gpus} on a machine", "CPUs on a machine", "MB of memory on a machine"
    most = [max(column) for column in zip(*has, strict=True)] or [0, 0, 0]
    requests = [*zip(units, needs, most, strict=True), ("minutes", asked.minutes, partition.minutes),
                ("machines", asked.machines, min(partition.machines, len(members)))]  # fmt: skip
    for unit, request, limit in requests:
        if request > limit:
            return Finding(
                subject, WRONG, f"asks for {request} {unit}; partition {partition.name} has at most {limit:.0f}"
            )
    fitting = [
        machine for machine, parts in zip(members, has, strict=True)
        if all(need <= part for need, part in zip(needs, parts, strict=True))
    ]  # fmt: skip
    count = f"{len(fitting)} machines of partition {partition.name}"
    if len(fitting) < asked.machines:
        words = ", ".join(f"{need} {unit}" for unit, need in zip(units, needs, strict=True))
        return Finding(subject, WRONG, f"{count} have {words} together; a task needs {asked.machines}")
    up = sum(machine.up for machine in fitting if partition.state == "UP")
    if up < asked.machines:
        return Finding(subject, UNKNOWN, f"fits {count}, of which {up} are up now: its tasks wait")
    return Finding(subject, OK, f"fits {count}" + (f", of which {up} are up now" if up < len(fitting) else ""))


def judged(stage: str, arrays: Sequence[Array], profile: Profile, store: Store, *, waits: bool) -> Finding:
    """Let SLURM test the scripts of a stage, without their dependencies.

    `waits` is True if too few machines are up: the test then refuses scripts that SLURM would queue if submitted.
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
                return Finding(subject, UNKNOWN, f"SLURM cannot test this while machines are down: {said}")
            return Finding(subject, WRONG, f"SLURM refuses {array.name}: {said}")
    start = re.search(r"to start at (\S+)", said)
    return Finding(subject, OK, "SLURM accepts it" + (f"; it would start at {start[1]}" if start else ""))
