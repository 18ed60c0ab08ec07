"""Cancel what is queued or running for an experiment.

  dae-ssl cancel methods
  dae-ssl cancel methods --dry-run

The tasks of other users are left alone. Submit the experiment again to continue.
"""

import argparse

from jobs import asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment and `--dry-run`."""
    asked.add_experiment(parser)
    parser.add_argument("--dry-run", action="store_true", help="list the tasks that would be cancelled; cancel nothing")


def run(given: argparse.Namespace) -> int:
    """Cancel every queued or running task that this user submitted for the experiment from this store."""
    from dae_ssl.cluster import launch, queue, submissions
    from dae_ssl.lock import held

    wanted = asked.experiment(given)
    name = wanted.experiment.name
    with held(wanted.store.launching):
        launch.adopt(wanted.store)
        sent = [submission for submission in submissions.launches(wanted.store) if submission.experiment == name]
        entries = [entry for entry in queue.queue() if any(submission.owns(entry) for submission in sent)]
        if given.dry_run:
            for entry in entries:
                print(f"{entry.task}  {entry.state.lower():10} {entry.name}")
            print(f"{len(entries)} tasks of {name} would be cancelled")
            return 0
        # Children first: without its parent, SLURM would cancel a task or let it wait for ever, as it is configured.
        for array in sorted({entry.array for entry in entries}, key=int, reverse=True):
            queue.cancel([array])
    print(f"{len(entries)} tasks of {name} cancelled" if entries else "nothing is queued or running")
    return 0
