"""Check a profile, and the images and disk of an experiment.

  dae-ssl check --profile gpu4                  check only the profile
  dae-ssl check methods --profile gpu4          check also the images, disk space and arrays of an experiment

Nothing is submitted. Each line is one finding: ok, will not work, or not certain. The exit code is 1 if something will
not work.
"""

import argparse
from collections.abc import Sequence

from dae_ssl.config import Cell, ConfigError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import asked, profiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment, which is optional."""
    asked.add_experiment(parser, "[EXPERIMENT] [NAME=VALUE ...]")


def run(given: argparse.Namespace) -> int:
    """Print every finding and a summary; return the exit code."""
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
    """Return what will be checked, with no cells if no experiment is named. Raises ConfigError for wrong words."""
    names, changes = asked.apart(given.words)
    if names:
        wanted = asked.experiment(given)
        return wanted.profile, wanted.store, wanted.cells
    if changes:
        raise ConfigError(f"{changes[0]} is a setting of an experiment's cells: name the experiment too")
    return profiles.profile(given.profile), Store(given.store), []
