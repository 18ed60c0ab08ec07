"""An exclusive lock per node that survives its holder: held by a file with a heartbeat, on any shared file system.

Neither `flock` nor file existence alone is enough on a cluster: the first is missing or local on many parallel file
systems, the second outlives a killed process. So the lock is a file created exclusively that names its holder, and a
thread of the holder touches it. A holder on this host is dead when its process is gone; one elsewhere when its
heartbeat has stood still for as long as *we* watched it, so clocks need not agree.
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

    Of a holder on another host that is told by one look at its heartbeat and this host's clock, which is good enough to
    show people; `held` does not rely on it.
    """
    found = _read(path)
    if found is None or _runs_here(found) is False:
        return None
    still = time.time() - found["beat"] / 1e9
    return None if _runs_here(found) is None and still > STALE_SECONDS else _words(found)


def _acquire(lock: Lock, wait: bool, tell: Callable[[str], None], give_up: Callable[[], bool]) -> None:
    seen: tuple[str, int] | None = None
    seen_since, told = time.monotonic(), False
    while not _create(lock):
        found = _read(lock.path)
        if found is None:
            continue
        running, pulse = _runs_here(found), (found["token"], found["beat"])
        if pulse != seen:
            if running is None and seen is not None:
                running = True  # its heart beat while we watched
            seen, seen_since = pulse, time.monotonic()
        if running is False or time.monotonic() - seen_since > STALE_SECONDS:
            tell(f"recovering {lock.path.parent} from {_words(found)}, which is no longer running")
            if _take_over(lock, pulse):
                return
            continue
        if (running and not wait) or give_up():
            raise Locked(f"{lock.path.parent} is being computed by {_words(found)}: wait for it, or stop it")
        if not told:
            tell(f"waiting for {lock.path.parent}, which is being computed by {_words(found)}")
            told = True
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
    found = _read(lock.path)
    return found is not None and found["token"] == lock.token


def _take_over(lock: Lock, stale: tuple[str, int]) -> bool:
    """Put our lock in the place of a stale one, given its token and last beat; return whether it is ours now.

    Of many processes that see the same stale lock one at a time may try, the holder of a lock named after its token.
    The place is never empty meanwhile, so that no newer lock can be overwritten and no two believe they hold it.
    """
    guard = lock.path.with_name(f"{_hidden(lock.path)}.stale.{stale[0]}")
    with held(guard, tell=lambda _text: None):
        found = _read(lock.path)
        if found is None or (found["token"], found["beat"]) != stale:
            return False
        write_json(lock.path, _identity(lock.token))
    return True


def _hidden(path: Path) -> str:
    return f".{path.name.removeprefix('.')}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content, status = path.read_bytes(), path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # NFS: removed by another host while we looked
            return None
        raise
    try:
        found = dict(json.loads(content))
    except (ValueError, TypeError):  # emptied by a power cut: nobody beats, so it grows stale like any other
        token = f"unreadable-{status.st_ino}-{status.st_mtime_ns}"
        found = {"token": token, "host": "an unknown host", "space": "", "pid": 0, "started": None, "since": "long ago"}
    return found | {"beat": status.st_mtime_ns}


def _beat(lock: Lock, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            found = _read(lock.path)
            if found is None or found["token"] != lock.token:
                return
            os.utime(lock.path)


def _words(found: dict[str, Any]) -> str:
    return f"process {found['pid']} on {found['host']} since {found['since']}"


def _runs_here(found: dict[str, Any]) -> bool | None:
    """Tell whether the holder, if it is of this host, runs; None where that cannot be known from here.

    A container or a reboot numbers processes anew, and a cluster may hide other users' processes from /proc.
    """
    if (found["host"], found["space"]) != (socket.gethostname(), _process_space()):
        return None
    try:
        os.kill(found["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    return bool(_started(found["pid"]) == found["started"])


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
