"""List finished submissions, and copies of the code that no submission uses any more.

A submission counts as finished only if SLURM's queue shows it, so none does while SLURM cannot be asked. The queue of a
user does not show the submissions of others, which are left alone.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dae_ssl.cluster import submissions
from dae_ssl.cluster.queue import Queued
from dae_ssl.cluster.script import LOGS
from dae_ssl.cluster.submissions import Launch
from dae_ssl.compute import disk
from dae_ssl.compute.disk import Descriptions
from dae_ssl.compute.spare import DAY, Spare, free_folder
from dae_ssl.files import weight
from dae_ssl.store import LAUNCH, Folder, Store

ENDED, SNAPSHOTS = "submissions that ended", "snapshots of the code that no submission runs"
SWEEP = "multirun-"
"""The prefix of the folder of a Hydra sweep, which has no record of what was submitted."""
_NAMED = re.compile(rb"DAE_SSL_SNAPSHOT=['\"]?([0-9a-f]{16})")


@dataclass(frozen=True)
class _Submission:
    folder: Folder
    over: bool
    snapshots: frozenset[str] | None
    """The snapshots of the code that it runs; None if they are unknown."""

    @property
    def young(self) -> bool:
        return _age(self.folder.path) < DAY


def spent(store: Store, described: Descriptions, queued: Sequence[Queued] | None) -> Iterator[Spare]:
    """Yield the finished submissions of this user, then the copies of the code that no other submission runs.

    queued: SLURM's queue; None if SLURM cannot be asked. The last submission of a node that is not done is kept, since
    `status` reads from it what went wrong. The code of a submission younger than a day is kept too. The caller must
    hold the lock `store.launching` from before the queue is read until everything is freed.
    """
    known = list(_submissions(store, queued))
    needed = _needed_by_status(store, described)
    for submission in known:
        folder = submission.folder
        if submission.over and folder.key not in needed:
            yield Spare(ENDED, folder.path, weight(folder.path), partial(free_folder, folder.path))
    runs = [submission.snapshots for submission in known if submission.young or not submission.over]
    if None in runs:
        return
    in_use = frozenset[str]().union(*(snapshots for snapshots in runs if snapshots is not None))
    for snapshot in store.snapshots():
        whole = re.fullmatch(r"[0-9a-f]{16}", snapshot.key) and disk.plain(snapshot.path, store)
        if whole and snapshot.key not in in_use and _age(snapshot.path) > DAY:
            yield Spare(SNAPSHOTS, snapshot.path, weight(snapshot.path), partial(free_folder, snapshot.path))


def _submissions(store: Store, queued: Sequence[Queued] | None) -> Iterator[_Submission]:
    """Yield the submissions of a store, including those whose record cannot be read."""
    launches = store.root / "launches"
    for path in sorted(launches.iterdir()) if launches.is_dir() else ():
        folder = Folder(path)
        if path.name.startswith(".") or not path.is_dir():
            continue
        ours = disk.plain(path, store) and path.stat().st_uid == os.getuid()
        if (path / LAUNCH).exists():
            try:
                sent = submissions.read(folder)
                yield _Submission(folder, ours and _over(sent, queued), frozenset([sent.source.snapshot]))
            except (OSError, ValueError, KeyError, TypeError):
                yield _Submission(folder, over=False, snapshots=None)
        elif path.name.startswith(SWEEP):
            waiting = queued is None or any(entry.comment == f"dae_ssl {folder.key}" for entry in queued)
            over = ours and not waiting and _age(path) > DAY  # its program reads what the last tasks returned
            yield _Submission(folder, over, _of_sweep(path))


def _over(sent: Launch, queued: Sequence[Queued] | None) -> bool:
    """Return whether it is certain that SLURM has no task of a submission."""
    if any(sent.open(array) for array in sent.arrays()):
        return False
    if all(sent.job(array) is None for array in sent.arrays()):
        return True
    return queued is not None and not any(sent.owns(entry) for entry in queued)


def _of_sweep(path: Path) -> frozenset[str] | None:
    """Return the snapshots that a sweep's batch scripts name; None if there are no scripts."""
    digests = [_NAMED.findall(script.read_bytes()) for script in (path / LOGS).glob("*.sh")]
    return frozenset(digest.decode() for of_script in digests for digest in of_script) if any(digests) else None


def _needed_by_status(store: Store, described: Descriptions) -> set[str]:
    """Return the last submissions of the nodes that described cells need and that are not done."""
    named = described.named()
    try:
        last = {id: task.launch.folder.key for id, task in submissions.sent(store).items() if id in named}
    except (OSError, ValueError, KeyError, TypeError):  # a damaged submission may be the last one of any node
        return {folder.key for folder in store.launches()}
    return {key for id, key in last.items() if store.node(*id).record() is None}


def _age(path: Path) -> float:
    """Return the seconds since a folder last changed."""
    return time.time() - path.stat().st_mtime
