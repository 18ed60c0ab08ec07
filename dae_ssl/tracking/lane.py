"""A lane that also copies its cells, while it computes them, to the MLflow server that the environment names."""

import sys

from dae_ssl.compute import lane
from dae_ssl.tracking import runs


def command(experiment: str) -> tuple[str, ...]:
    """Return the command that starts such a lane; `experiment` is the name of MLflow's experiment."""
    return sys.executable, "-m", "dae_ssl.tracking.lane", experiment


def main(experiment: str, *arguments: str) -> int:
    """Run `compute.lane`, and copy each cell while it is computed."""
    return lane.main(arguments, command(experiment), lambda store: runs.copying(store, experiment))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
