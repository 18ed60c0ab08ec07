"""Print the versions that results depend on.

  dae-ssl versions
  dae-ssl versions --lock requirements.lock      compared with what the file pins

Exits 1 if what is loaded is not what is pinned.
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
"""The package, as a pattern, whose pinned version each loaded library must have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the versions are compared with."""
    parser.add_argument("--lock", type=grammar.path, metavar="FILE", help="hash-locked requirements to compare with")


def run(given: argparse.Namespace) -> int:
    """Print a line for each; return 1 if one differs from its pin. Raises ConfigError if there are no pins."""
    found = loaded()
    for name, version in found.items():
        print(f"{name:14}{version}")
    wrong = differences(found, pinned(given.lock)) if given.lock else []
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def loaded() -> dict[str, str]:
    """Return the versions of packages, and of CUDA's libraries as PyTorch has loaded them, with or without a GPU."""
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
        raise ConfigError(f"--lock {lock}: {error.strerror}: name a requirements file with ==") from error
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", "\n".join(lines), re.MULTILINE))
    found = {
        library: version
        for library, package in PINS.items()
        for name, version in pins.items()
        if re.fullmatch(package, name)
    }
    if "torch" not in found:
        raise ConfigError(f"--lock {lock} pins no torch: name a requirements file with torch==")
    return found


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return a line for each library that is not there in the pinned version.

    Libraries tell fewer parts of their version than packages have, and PyTorch's own carries its build behind a plus.
    """
    wrong = []
    for library, version in wanted.items():
        has = found.get(library)
        if has is None:
            wrong.append(f"{library} is not loaded, and {version} is pinned")
        elif not f"{version.partition('+')[0]}.".startswith(f"{has.partition('+')[0]}."):
            wrong.append(f"{library} is {has}, and {version} is pinned")
    return wrong
