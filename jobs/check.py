"""Tell what will not work before anything is queued.

  dae-ssl check --profile gpu4                  the profile alone
  dae-ssl check methods --profile gpu4          with the images and arrays of an experiment

One line for each finding: ok, will not work, or cannot be told from here. Exits 1 if something will not work.
"""

import argparse
from collections.abc import Sequence

from dae_ssl.config import Cell, ConfigError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import asked, profiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment, which may be left out."""
    asked.add_experiment(parser, "[EXPERIMENT] [NAME=VALUE ...]")


def run(given: argparse.Namespace) -> int:
    """Print every finding and a line that sums them up; return the exit code."""
    from dae_ssl.cluster import check
    from dae_ssl.cluster.finding import OK, UNKNOWN, WRONG

    verdicts = []
    for finding in check.findings(*subject(given)):
        verdicts.append(finding.verdict)
        print(f"{finding.verdict:16}{finding.subject:16}{finding.message}", flush=True)
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in (OK, WRONG, UNKNOWN)]
    print(f"\n{len(verdicts)} findings: {', '.join(counts)}")
    return 1 if WRONG in verdicts else 0


def subject(given: argparse.Namespace) -> tuple[Profile, Store, Sequence[Cell]]:
    """Return what is to be checked; without an experiment no cells. Raises ConfigError for what is not understood."""
    names, changes = asked.apart(given.words)
    if names:
        wanted = asked.experiment(given)
        return wanted.profile, wanted.store, wanted.cells
    if changes:
        raise ConfigError(f"{changes[0]} is of an experiment's cells: name the experiment too")
    return profiles.profile(given.profile), Store(given.store), []
