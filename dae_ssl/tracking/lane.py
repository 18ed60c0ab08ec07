"""A lane whose cells are copied to MLflow while they are computed, to the server that the environment names."""

import sys

from dae_ssl.compute import lane
from dae_ssl.tracking import runs


def command(experiment: str) -> tuple[str, ...]:
    """Return what starts such a lane, for an experiment of MLflow."""
    return sys.executable, "-m", "dae_ssl.tracking.lane", experiment


def main(experiment: str, *arguments: str) -> int:
    """Do what `compute.lane` does, and copy."""
    return lane.main(arguments, command(experiment), lambda store: runs.copying(store, experiment))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
