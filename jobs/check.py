"""Tell what will not work before anything is queued: the profile, and the data and arrays of an experiment.

python -m jobs.check profile=gpu4
python -m jobs.check profile=gpu4 experiment=methods

One line for each finding: ok, will not work, or cannot be told from here. Exits 1 if something will not work.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dae_ssl.cluster import check
from dae_ssl.config import Cell, require
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import experiment


def main(arguments: Sequence[str]) -> int:
    """Print every finding and a line that sums them up; return the exit code."""
    verdicts = []
    for finding in check.findings(*subject(arguments)):
        verdicts.append(finding.verdict)
        print(f"{finding.verdict:16}{finding.subject:16}{finding.message}", flush=True)
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in (check.OK, check.WRONG, check.UNKNOWN)]
    print(f"\n{len(verdicts)} findings: {', '.join(counts)}")
    return 1 if check.WRONG in verdicts else 0


def subject(arguments: Sequence[str]) -> tuple[Profile, Store, list[Cell]]:
    """Return what is to be checked; without an experiment no cells. Raises ConfigError for what is not understood."""
    if any(argument.startswith("experiment=") for argument in arguments):
        asked = experiment.asked(arguments)
        return asked.profile, asked.store, asked.cells
    given = {"profile": "local", "store": os.environ.get("DAE_SSL_STORE", "store")}
    for argument in arguments:
        name, _, value = argument.partition("=")
        require(name in given and value != "", name, value, "profile=NAME and store=FOLDER, or give experiment=NAME")
        given[name] = value
    return experiment.profile(given["profile"]), Store(Path(given["store"])), []


if __name__ == "__main__":
    experiment.run(main, sys.argv[1:], __doc__)
