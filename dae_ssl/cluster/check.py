"""What of a profile will not work, told before anything is queued. Sends nothing and leaves nothing behind.

Each question is a function and each answer a `Finding`. What can be seen from here is looked at here; what SLURM makes
of the profile is in `judge`.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import dae_ssl
from dae_ssl.cluster import judge
from dae_ssl.cluster.finding import OK, UNKNOWN, WRONG, Finding
from dae_ssl.compute import disk
from dae_ssl.compute.disk import said
from dae_ssl.compute.provenance import image_digest
from dae_ssl.config import Cell, ConfigError
from dae_ssl.data.prepared import require_fits
from dae_ssl.files import StoreError, explained
from dae_ssl.planning import plan, room
from dae_ssl.planning.profile import Profile, passed
from dae_ssl.store import Store
from dae_ssl.tracking import server

RUNS_WITH = ("slurm/after_task.sh", "jobs/compute.py")
"""What a task needs of the code beside the package; the first puts it into the queue again."""
OWN_DISKS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""Folders that each machine usually has for itself."""
FORGETFUL = {"-e", "--cleanenv", "-C", "--containall"}
"""Options of Apptainer that keep a task's environment from it."""
SECONDS = 10
"""How long the tracking server may take to answer."""


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
    yield from judge.slurm(profile, store, cells)


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
    own_disk = next((path for path in OWN_DISKS if root.is_relative_to(path)), None)
    if local:
        return Finding("store", OK, can)
    if own_disk is not None:
        alone = f"{own_disk} is mostly a disk of this machine alone: the cluster's machines must see it"
        return Finding("store", UNKNOWN, f"{can}, but {alone}")
    return Finding("store", OK, f"{can} from here; the cluster's machines must see it under the same path")


def prepared(store: Store, cells: Sequence[Cell]) -> Iterator[Finding]:
    """Tell what the prepared data sets lack for some cells, each reason once."""
    reasons: dict[str, int] = {}
    for cell in cells:
        try:
            require_fits(store, cell)
        except (StoreError, ConfigError) as error:
            reasons[str(error)] = reasons.get(str(error), 0) + 1
    for reason, count in reasons.items():
        yield Finding("data", WRONG, f"{reason} ({count} of {len(cells)} cells)")
    if cells and not reasons:
        yield Finding("data", OK, f"prepared for all of {len(cells)} cells")


def roomy(profile: Profile, store: Store, cells: Sequence[Cell]) -> Finding:
    """Tell whether what the cells lack fits the disk; a quota may be less than what it has free."""
    planned = plan.make(cells, store, profile)
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
        yield _program("container", profile.container[0], search)
        return
    python = profile.python or sys.executable
    if Path(python).is_absolute() and shutil.which(python, path=search) is None:
        yield Finding("python", WRONG, f"{python} is not an executable file: correct `python` in the profile")
    else:
        yield _program("python", python, search)


def _program(subject: str, command: str, search: str | None) -> Finding:
    path = shutil.which(command, path=search)
    elsewhere = f"{command} is not on the PATH here: the cluster's machines must have it, or `setup` must load it"
    return Finding(subject, OK if path else UNKNOWN, path or elsewhere)


def tracked(uri: str | None) -> Iterator[Finding]:
    """Tell whether the tracking server answers here, and takes the name and password of this environment."""
    if uri is None:
        return
    scheme = uri.rpartition("://")[0]
    if scheme.lower() not in ("http", "https"):
        told = f"{scheme or 'a file'} is no server that can be asked: the cluster's machines must reach it as it stands"
        yield Finding("tracking", UNKNOWN, told)
        return
    try:
        with server.settings(SECONDS):
            server.client(uri)
    except server.AwayError as error:
        yield Finding("tracking", WRONG, str(error))
    else:
        answers = f"{server.address(uri)} answers here and lets you in"
        yield Finding("tracking", OK, f"{answers}; the cluster's machines must reach it too")
