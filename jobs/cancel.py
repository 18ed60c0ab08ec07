"""Cancel what is queued or running for an experiment. What is finished or saved stays; submit again to go on.

python -m jobs.cancel experiment=methods profile=gpu4
"""

import sys
from collections.abc import Sequence

from dae_ssl.cluster import launch, queue
from dae_ssl.lock import held
from jobs import experiment


def main(arguments: Sequence[str]) -> None:
    """Cancel every task that was sent for the experiment and is not over; tasks that others sent are left alone."""
    asked = experiment.asked(arguments)
    with held(asked.store.launching):
        launch.adopt(asked.store)
        sent = [one for one in launch.launches(asked.store) if one.experiment == asked.experiment.name]
        found = [entry for entry in queue.queue() if any(one.owns(entry) for one in sent)]
        # Children first: one whose parent is gone would be cancelled by SLURM, or wait for ever, as it is set up.
        for array in sorted({entry.array for entry in found}, key=int, reverse=True):
            queue.cancel([array])
    print(f"{len(found)} tasks of {asked.experiment.name} cancelled" if found else "nothing is queued or running")


if __name__ == "__main__":
    experiment.run(main, sys.argv[1:], __doc__)
