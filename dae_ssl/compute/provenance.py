"""The provenance of a result: versions, commit, image, device, host, job."""

import contextlib
import os
import platform
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dae_ssl
from dae_ssl.config import ConfigError
from dae_ssl.files import sha256

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "numpy", "h5py", "scikit-learn")
SLURM = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME")


def provenance(device: "torch.device", ranks: int) -> dict[str, Any]:
    """Return the fields of a commit record about the process that computed the node."""
    return {
        "commit": git_commit(),
        "snapshot": os.environ.get("DAE_SSL_SNAPSHOT"),
        "image": os.environ.get("DAE_SSL_IMAGE"),
        "versions": versions(),
        "device": device_name(device),
        "device_type": device.type,
        "ranks": ranks,
        "host": socket.gethostname(),
        "slurm": {name.lower(): os.environ[name] for name in SLURM if name in os.environ},
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that results depend on."""
    import importlib.metadata

    import torch

    versions = {"python": platform.python_version()}
    for package in ("dae_ssl", *PACKAGES):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    if torch.version.cuda and torch.cuda.is_available():
        versions |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return versions


def device_name(device: "torch.device") -> str:
    """Return the name of the processor or GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def image_digest(image: str) -> str | None:
    """Return the digest in a reference to a container image, or None if it has none."""
    match = re.search(r"@(sha256:[0-9a-f]{64})$", image)
    return match and match[1]


def image_identity(image: str) -> str:
    """Return what identifies a container image's content: the digest in its reference, or the SHA-256 of its file.

    Raises ConfigError for a name whose content may change.
    """
    if digest := image_digest(image):
        return digest
    try:
        return f"sha256:{sha256(Path(image))}"
    except OSError as error:
        choices = "the path of an image file, or a reference by digest, as in NAME@sha256:..."
        raise ConfigError(f"image={image} cannot be read ({error.strerror}): give {choices}") from error


def git_commit() -> str | None:
    """Return the commit of the code that runs, marked `-modified` if files differ from it; None outside a checkout.

    A snapshot of the package gets it from DAE_SSL_COMMIT, and a copy without .git, as in a container image, from a file
    COMMIT next to the package. Text that is not one printable word of at most 100 letters is ignored.
    """
    folder = Path(dae_ssl.__file__).parent
    if stated := _word(os.environ.get("DAE_SSL_COMMIT", "")):
        return stated
    with contextlib.suppress(OSError):
        return _word(folder.with_name("COMMIT").read_text(errors="replace"))
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--", ".", "../jobs", "../slurm", "../hydra_plugins")
        return commit + ("-modified" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _word(text: str) -> str | None:
    return text.strip() if re.fullmatch(r"[!-~]{1,100}", text.strip()) else None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
