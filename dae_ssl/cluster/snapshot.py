"""What tasks run: a copy of the code in the store, and the container image that it runs in."""

import contextlib
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import dae_ssl
from dae_ssl.compute.provenance import git_commit, image_identity
from dae_ssl.files import sync_folder
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store

PLUGINS, LAUNCHER = "hydra_plugins", "dae_ssl_launcher"
PACKAGES = ("dae_ssl", "jobs", "slurm", PLUGINS)


@dataclass(frozen=True)
class Source:
    """What tasks run, as their commit records tell it."""

    snapshot: str
    """Digest of the code, which lies under it in the store."""
    commit: str | None
    image: str | None
    """Digest of the container image; None without one."""


def source(store: Store, profile: Profile) -> Source:
    """Return what tasks sent now are to run. Raises ConfigError if the image cannot be told by its content."""
    image = None if profile.image is None else image_identity(profile.image)
    return Source(snapshot(store), git_commit(), image)


def others(root: Path) -> set[tuple[str, ...]]:
    """Return what lies in the folder of Hydra's plugins and is not ours, where all are installed into one folder."""
    return {path.relative_to(root).parts for path in (root / PLUGINS).glob("*") if path.stem != LAUNCHER}


def snapshot(store: Store) -> str:
    """Copy the package as it is now into the store, unless it is there, and return the copy's digest.

    Tasks run from it, so that code which changes between submission and start changes nothing that is computed.
    """
    root = Path(dae_ssl.__file__).parents[1]
    left_out = others(root)
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(root).parts[:2] not in left_out
    }
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = store.snapshot(digest.hexdigest()[:16])
    if folder.path.exists():
        os.utime(folder.path)  # by which it is known to be in use while nothing tells yet what runs it
    else:
        store.snapshot("").path.mkdir(parents=True, exist_ok=True)
        aside = folder.path.with_name(f".{folder.key}.{secrets.token_hex(4)}")
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave an empty file under a name that says it is whole
            shutil.copymode(root / name, aside / name)
        with contextlib.suppress(OSError):  # another process made the same one meanwhile
            aside.rename(folder.path)
        shutil.rmtree(aside, ignore_errors=True)
        sync_folder(folder.path.parent)
    return folder.key
