"""Submissions that ended, and copies of the code that none runs any more.

Only the queue tells whether a submission ended: where SLURM cannot be asked, none has. What another user sent is not in
the queue of this one, and is left alone.
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
"""How the name of a sweep's folder begins, which has no account of what was sent."""
_NAMED = re.compile(rb"DAE_SSL_SNAPSHOT=['\"]?([0-9a-f]{16})")


@dataclass(frozen=True)
class _Submission:
    folder: Folder
    over: bool
    snapshots: frozenset[str] | None
    """The code that it runs; None where that cannot be told."""

    @property
    def young(self) -> bool:
        return _age(self.folder.path) < DAY


def spent(store: Store, described: Descriptions, queued: Sequence[Queued] | None) -> Iterator[Spare]:
    """Yield the submissions of this user that ended, then the code that no other one runs.

    queued: what SLURM has; None where it cannot be asked. The last submission of a node that is not done stays, since
    `status` tells from it what went wrong. Nothing that is younger than a day takes its code with it. Whoever frees
    what is yielded has to hold the lock `store.launching`, from before the queue was asked.
    """
    known = list(_submissions(store, queued))
    telling = _telling(store, described)
    for submission in known:
        folder = submission.folder
        if submission.over and folder.key not in telling:
            yield Spare(ENDED, folder.path, weight(folder.path), partial(free_folder, folder.path))
    runs = [submission.snapshots for submission in known if submission.young or not submission.over]
    if None in runs:
        return
    in_use = frozenset[str]().union(*(each for each in runs if each is not None))
    for snapshot in store.snapshots():
        whole = re.fullmatch(r"[0-9a-f]{16}", snapshot.key) and disk.plain(snapshot.path, store)
        if whole and snapshot.key not in in_use and _age(snapshot.path) > DAY:
            yield Spare(SNAPSHOTS, snapshot.path, weight(snapshot.path), partial(free_folder, snapshot.path))


def _submissions(store: Store, queued: Sequence[Queued] | None) -> Iterator[_Submission]:
    """Yield what was sent from a store, as far as it is known for that."""
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
    """Tell whether SLURM has nothing of a submission, as far as it can be known."""
    if any(sent.open(array) for array in sent.arrays()):
        return False
    if all(sent.job(array) is None for array in sent.arrays()):
        return True
    return queued is not None and not any(sent.owns(entry) for entry in queued)


def _of_sweep(path: Path) -> frozenset[str] | None:
    """Return the code that a sweep's batch scripts name; None where there is no script."""
    told = [_NAMED.findall(script.read_bytes()) for script in (path / LOGS).glob("*.sh")]
    return frozenset(digest.decode() for found in told for digest in found) if any(told) else None


def _telling(store: Store, described: Descriptions) -> set[str]:
    """Return the submissions that are the last word on a node which a described cell needs and which is not done."""
    named = described.named()
    try:
        last = {id: task.launch.folder.key for id, task in submissions.sent(store).items() if id in named}
    except (OSError, ValueError, KeyError, TypeError):  # one of them is damaged, and may be the last of anything
        return {folder.key for folder in store.launches()}
    return {key for id, key in last.items() if store.node(*id).record() is None}


def _age(path: Path) -> float:
    """Return the seconds since anything was made or removed in a folder."""
    return time.time() - path.stat().st_mtime
