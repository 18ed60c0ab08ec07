"""Check a profile before anything is queued. The checks submit no job and leave no file behind.

Each check is a function, and each result a `Finding`. This module checks what this machine can see; `judge` checks the
profile against SLURM.
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
"""The files outside the package that a task needs; the first one requeues it."""
OWN_DISKS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""Folders that are usually local to each machine."""
FORGETFUL = {"-e", "--cleanenv", "-C", "--containall"}
"""Options of Apptainer that hide the environment from a task."""
SECONDS = 10
"""The timeout of the tracking server."""


def findings(profile: Profile, store: Store, cells: Sequence[Cell] = ()) -> Iterator[Finding]:
    """Yield the result of each check as soon as it is known; with `cells`, data, disk and arrays are checked too."""
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
    """Check that the store can be written from here, and that other machines are likely to see it."""
    root = store.root.resolve()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with explained(existing), tempfile.TemporaryFile(dir=existing):
            pass
    except StoreError as error:
        return Finding("store", WRONG, str(error))
    writable = f"{root} can be {'written' if existing == root else f'created in {existing}'}"
    own_disk = next((path for path in OWN_DISKS if root.is_relative_to(path)), None)
    if local:
        return Finding("store", OK, writable)
    if own_disk is not None:
        message = f"{writable}, but {own_disk} is usually a local disk: the cluster's machines must see the store"
        return Finding("store", UNKNOWN, message)
    return Finding("store", OK, f"{writable} from here; the cluster's machines must see it under the same path")


def prepared(store: Store, cells: Sequence[Cell]) -> Iterator[Finding]:
    """Check that the data sets are prepared and large enough for the cells; yield each reason once."""
    reasons: dict[str, int] = {}
    for cell in cells:
        try:
            require_fits(store, cell)
        except (StoreError, ConfigError) as error:
            reasons[str(error)] = reasons.get(str(error), 0) + 1
    for reason, count in reasons.items():
        yield Finding("data", WRONG, f"{reason} ({count} of {len(cells)} cells)")
    if cells and not reasons:
        yield Finding("data", OK, f"prepared for all {len(cells)} cells")


def roomy(profile: Profile, store: Store, cells: Sequence[Cell]) -> Finding:
    """Check that the missing nodes of the cells fit the disk; a quota may be smaller than the free space."""
    planned = plan.make(cells, store, profile)
    needed, free = room.needed(planned, profile, store)[room.keeps(planned, profile, store)], disk.free(store)
    drops = "set keep_features: false in the profile, or " if room.keeps(planned, profile, store) else ""
    amounts = f"needs {said(needed.peak)} at the peak and {said(needed.end)} in the end; {said(free)} are free"
    if needed.peak <= free:
        return Finding("disk", UNKNOWN if needed.unknown else OK, amounts)
    verdict = WRONG if needed.end > free else UNKNOWN  # not all tasks need to run at the same time
    return Finding("disk", verdict, f"{amounts}: {drops}free space with `dae-ssl clean`, or choose another store")


def device_here(profile: Profile) -> Finding:
    """Check that this machine has the GPUs that a local profile's ranks need."""
    import torch

    pretrain, gpus = profile.stages.pretrain, torch.cuda.device_count()
    if pretrain.machines > 1:
        advice = "choose 1, since launcher local uses only this machine"
        return Finding("device", WRONG, f"stages.pretrain.machines={pretrain.machines}: {advice}")
    if profile.device == "cpu" or (profile.device == "auto" and gpus == 0):
        return Finding("device", OK, "the CPU")
    needed = pretrain.ranks_per_machine
    counts = f"{needed} ranks need a GPU each, and this machine has {gpus} GPUs"
    if gpus < needed:
        return Finding("device", WRONG, f"{profile.device}: {counts}: choose device cpu or fewer ranks_per_machine")
    return Finding("device", OK, counts)


def code(root: Path) -> Finding:
    """Check that the other files that tasks run lie beside the package, so that a snapshot can copy them."""
    missing = [name for name in RUNS_WITH if not (root / name).is_file()]
    if missing:
        return Finding("code", WRONG, f"{', '.join(missing)} is not in {root}: run this from a checkout of the project")
    return Finding("code", OK, f"each submission takes a snapshot of {root}")


def started(profile: Profile) -> Iterator[Finding]:
    """Check that the image, the container command and Python exist, as far as this machine can see."""
    search = passed(profile).get("PATH")
    if profile.image is not None:
        exists = image_digest(profile.image) or Path(profile.image).is_file()
        advice = "build it, or set `image` in the profile to a file or to NAME@sha256:..."
        yield Finding(
            "image", OK if exists else WRONG, profile.image if exists else f"{profile.image} is not a file: {advice}"
        )
    if profile.container:
        if profile.image is None:
            yield Finding("image", UNKNOWN, "the profile sets no image, so commit records will not name the container")
        if lost := FORGETFUL.intersection(profile.container):
            options = ", ".join(sorted(lost))
            message = f"{options} hides the environment that tasks need: leave it out of `container` in the profile"
            yield Finding("container", WRONG, message)
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
    """Check that the tracking server answers here and accepts the user name and password of this environment."""
    if uri is None:
        return
    scheme = uri.rpartition("://")[0]
    if scheme.lower() not in ("http", "https"):
        kind = f"a {scheme} address" if scheme else "a file"
        message = f"{kind} cannot be checked here: the cluster's machines must reach it under the same address"
        yield Finding("tracking", UNKNOWN, message)
        return
    try:
        with server.settings(SECONDS):
            server.client(uri)
    except server.AwayError as error:
        yield Finding("tracking", WRONG, str(error))
    else:
        answers = f"{server.address(uri)} answers here and accepts your credentials"
        yield Finding("tracking", OK, f"{answers}; the cluster's machines must reach it too")
