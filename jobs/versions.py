"""Print the versions that results depend on, as this Python finds them.

python -m jobs.versions
python -m jobs.versions --lock requirements.lock      exits 1 if what is loaded is not what the file pins
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from dae_ssl.compute import provenance
from dae_ssl.config import ConfigError
from jobs import settings

PINS = {
    "torch": r"torch",
    "torchvision": r"torchvision",
    "cuda": r"nvidia-cuda-runtime(-cu\d+)?",
    "cudnn": r"nvidia-cudnn(-cu\d+)?",
    "nccl": r"nvidia-nccl(-cu\d+)?",
}
"""The package, as a pattern, whose pinned version each loaded library must have."""


def loaded() -> dict[str, str]:
    """Return the versions of packages, and of CUDA's libraries as PyTorch has loaded them, with or without a GPU."""
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


def main() -> None:
    """Print a line for each; exit 1 if one differs from its pin, 2 if there are no pins to compare with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hash-locked requirements to compare with")
    given = parser.parse_args()
    found = loaded()
    for name, version in found.items():
        print(f"{name:14}{version}")
    try:
        wrong = differences(found, pinned(given.lock)) if given.lock else []
    except ConfigError as error:
        settings.fail(error, 2)
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
