"""Fix what tasks run: a copy of the code in the store, and the container image."""

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
    """What tasks run, as their commit records name it."""

    snapshot: str
    """The digest of the code, which is also the name of its copy in the store."""
    commit: str | None
    image: str | None
    """The digest of the container image; None without a container."""


def source(store: Store, profile: Profile) -> Source:
    """Return what tasks submitted now will run. Raises ConfigError if the image has no digest."""
    image = None if profile.image is None else image_identity(profile.image)
    return Source(snapshot(store), git_commit(), image)


def others(root: Path) -> set[tuple[str, ...]]:
    """Return the files in the folder of Hydra's plugins that belong to other packages, as in an installed package."""
    return {path.relative_to(root).parts for path in (root / PLUGINS).glob("*") if path.stem != LAUNCHER}


def snapshot(store: Store) -> str:
    """Copy the current code into the store, unless the same copy exists, and return the digest of the copy.

    Tasks run the copy, so that changes to the code between submission and start do not change what is computed.
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
        os.utime(folder.path)  # marks it as in use until the submission that runs it is recorded
    else:
        store.snapshot("").path.mkdir(parents=True, exist_ok=True)
        aside = folder.path.with_name(f".{folder.key}.{secrets.token_hex(4)}")
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # otherwise a power cut could leave an empty file in a copy that looks complete
            shutil.copymode(root / name, aside / name)
        with contextlib.suppress(OSError):  # another process made the same copy meanwhile
            aside.rename(folder.path)
        shutil.rmtree(aside, ignore_errors=True)
        sync_folder(folder.path.parent)
    return folder.key
