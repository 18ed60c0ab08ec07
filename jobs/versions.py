"""Print the versions that results depend on.

  dae-ssl versions
  dae-ssl versions --lock requirements.lock      compare them with the versions that a lock file pins

The exit code is 1 if a loaded version is not the pinned one.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from dae_ssl.config import ConfigError
from jobs import grammar

PINS = {
    "torch": r"torch",
    "torchvision": r"torchvision",
    "cuda": r"nvidia-cuda-runtime(-cu\d+)?",
    "cudnn": r"nvidia-cudnn(-cu\d+)?",
    "nccl": r"nvidia-nccl(-cu\d+)?",
}
"""For each loaded library, a pattern of the package whose pinned version it must have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lock file."""
    parser.add_argument("--lock", type=grammar.path, metavar="FILE", help="requirements file to compare with")


def run(given: argparse.Namespace) -> int:
    """Print each version; return 1 if one differs from its pin. Raises ConfigError if the file has no pins."""
    found = loaded()
    for name, version in found.items():
        print(f"{name:14}{version}")
    wrong = differences(found, pinned(given.lock)) if given.lock else []
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def loaded() -> dict[str, str]:
    """Return the versions of packages, and of the CUDA libraries that PyTorch has loaded, with or without a GPU."""
    import torch

    from dae_ssl.compute import provenance

    found = provenance.versions()
    if torch.version.cuda:
        cudnn = torch.backends.cudnn.version()
        found["cuda"] = torch.version.cuda
        found["cudnn"] = f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def pinned(lock: Path) -> dict[str, str]:
    """Return the version that a lock file pins for each of PINS. Raises ConfigError if it pins no torch."""
    try:
        lines = lock.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"--lock {lock}: {error.strerror}: name a requirements file that pins with ==") from error
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", "\n".join(lines), re.MULTILINE))
    found = {
        library: version
        for library, package in PINS.items()
        for name, version in pins.items()
        if re.fullmatch(package, name)
    }
    if "torch" not in found:
        raise ConfigError(f"--lock {lock} does not pin torch: name a requirements file with torch==")
    return found


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return a line for each library that is not loaded in the pinned version.

    A library may report fewer parts of its version than its package has, and PyTorch appends its build after a plus.
    """
    wrong = []
    for library, version in wanted.items():
        has = found.get(library)
        if has is None:
            wrong.append(f"{library} is not loaded, and {version} is pinned")
        elif not f"{version.partition('+')[0]}.".startswith(f"{has.partition('+')[0]}."):
            wrong.append(f"{library} is {has}, and {version} is pinned")
    return wrong
