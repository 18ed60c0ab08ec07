"""An exclusive lock per node that survives its holder: held by a file with a heartbeat, on any shared file system.

Neither `flock` nor file existence alone is enough on a cluster: the first is missing or local on many parallel file
systems, the second outlives a killed process. So the lock is a file created exclusively that names its holder, and a
thread of the holder touches it. A holder on this host is dead when its process is gone; one elsewhere when its
heartbeat has stood still for as long as *we* watched it, so clocks need not agree.

`filelock.SoftFileLease` works alike, but recovers no lock at all where names cannot be exchanged, as on NFS, and none
that a power cut has emptied: a dead holder would block its node for ever.
"""

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dae_ssl.files import StoreError, explained, write_json

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
POLL_SECONDS = 0.5


class Locked(StoreError):
    """Another process holds the lock; the message says which, and since when."""


@dataclass(frozen=True)
class Lock:
    """A lock that is held; `check` tells whether it still is."""

    path: Path
    token: str

    def check(self) -> None:
        """Raise StoreError if another process took the lock over, as after a long suspension of this one."""
        holder = _read(self.path)
        if holder is None or holder["token"] != self.token:
            raise StoreError(f"{self.path} was taken over while this process stood still: stop, the other continues")


@contextlib.contextmanager
def held(
    path: Path,
    *,
    wait: bool = True,
    tell: Callable[[str], None] = print,
    give_up: Callable[[], bool] = lambda: False,
) -> Iterator[Lock]:
    """Hold the lock at `path` while the block runs.

    When another process holds it, say so once with `tell` and wait, or raise Locked if not to `wait`, or once to
    `give_up`. A lock left by a dead process is taken over; whether one on another host is dead shows in seconds to a
    minute, waited for either way.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path, secrets.token_hex(8))
    _acquire(lock, wait, tell, give_up)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(lock, stop), daemon=True, name=f"lock {path.parent.name}")
    beating.start()
    try:
        yield lock
    finally:
        stop.set()
        beating.join()
        holder = _read(path)
        if holder is not None and holder["token"] == lock.token:
            path.unlink(missing_ok=True)


def holder(path: Path) -> str | None:
    """Return who holds the lock, in words, or None when nobody does or the holder seems to be dead.

    Whether one on another host is dead is judged by one look at its heartbeat and this host's clock, which is good
    enough to show people; `held` does not rely on it.
    """
    there = _read(path)
    if there is None or _runs_here(there) is False:
        return None
    still = time.time() - there["beat"] / 1e9
    return None if _runs_here(there) is None and still > STALE_SECONDS else _words(there)


def _acquire(lock: Lock, wait: bool, tell: Callable[[str], None], give_up: Callable[[], bool]) -> None:
    seen: tuple[str, int] | None = None
    seen_since, waiting = time.monotonic(), False
    while not _create(lock):
        there = _read(lock.path)
        if there is None:
            continue
        running, pulse = _runs_here(there), (there["token"], there["beat"])
        if pulse != seen:
            if running is None and seen is not None:
                running = True  # its heart beat while we watched
            seen, seen_since = pulse, time.monotonic()
        if running is False or time.monotonic() - seen_since > STALE_SECONDS:
            tell(f"recovering {lock.path.parent} from {_words(there)}, which is no longer running")
            if _take_over(lock, pulse):
                return
            continue
        if (running and not wait) or give_up():
            raise Locked(f"{lock.path.parent} is being computed by {_words(there)}: wait for it, or stop it")
        if not waiting:
            tell(f"waiting for {lock.path.parent}, which is being computed by {_words(there)}")
            waiting = True
        time.sleep(POLL_SECONDS)


def _identity(token: str) -> dict[str, object]:
    pid = os.getpid()
    return {"token": token, "host": socket.gethostname(), "space": _process_space(), "pid": pid,
            "started": _started(pid), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}  # fmt: skip


def _create(lock: Lock) -> bool:
    """Create the lock file, whole, only if there is none: written aside and linked, since a link never overwrites."""
    aside = lock.path.with_name(f"{_hidden(lock.path)}.{lock.token}")
    with explained(lock.path):
        if lock.path.exists():
            return False
        try:
            with aside.open("w") as file:
                file.write(json.dumps(_identity(lock.token)))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # NFS may also say so of a link that it has made
                os.link(aside, lock.path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
    there = _read(lock.path)
    return there is not None and there["token"] == lock.token


def _take_over(lock: Lock, stale: tuple[str, int]) -> bool:
    """Put our lock in the place of a stale one, given its token and last beat; return whether it is ours now.

    Where many processes see the same stale lock, one at a time may try: the holder of a lock named after its token.
    The place is never empty meanwhile, so that no newer lock can be overwritten and no two believe they hold it.
    """
    guard = lock.path.with_name(f"{_hidden(lock.path)}.stale.{stale[0]}")
    with held(guard, tell=lambda _text: None):
        there = _read(lock.path)
        if there is None or (there["token"], there["beat"]) != stale:
            return False
        write_json(lock.path, _identity(lock.token))
    return True


def _hidden(path: Path) -> str:
    return f".{path.name.removeprefix('.')}"


def _read(path: Path) -> dict[str, Any] | None:
    """Return who holds the lock, as `_identity` tells it, and when its heart last beat; None if there is no lock."""
    try:
        content, status = path.read_bytes(), path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # NFS: removed by another host while we looked
            return None
        raise
    # One that a power cut emptied: nobody beats, so it grows stale like any other.
    unreadable = {"token": f"unreadable-{status.st_ino}-{status.st_mtime_ns}", "host": "an unknown host", "space": "",
                  "pid": 0, "started": None, "since": "long ago"}  # fmt: skip
    try:
        identity = dict(json.loads(content))
    except (ValueError, TypeError):
        identity = {}
    return (identity if identity.keys() >= unreadable.keys() else unreadable) | {"beat": status.st_mtime_ns}


def _beat(lock: Lock, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            there = _read(lock.path)
            if there is None or there["token"] != lock.token:
                return
            os.utime(lock.path)


def _words(identity: dict[str, Any]) -> str:
    return f"process {identity['pid']} on {identity['host']} since {identity['since']}"


def _runs_here(identity: dict[str, Any]) -> bool | None:
    """Tell whether the holder, if it is of this host, runs; None where that cannot be known from here.

    A container or a reboot numbers processes anew, and a cluster may hide other users' processes from /proc.
    """
    if (identity["host"], identity["space"]) != (socket.gethostname(), _process_space()):
        return None
    try:
        os.kill(identity["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    return bool(_started(identity["pid"]) == identity["started"])


def _process_space() -> str:
    """Return what process numbers are unique in: this boot of this machine, this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot, which tells it from a later one with its number."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else rest[18]
