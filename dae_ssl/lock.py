"""An exclusive lock per node that survives its holder: held by a file with a heartbeat, on any shared file system.

Neither `flock` nor file existence alone is enough on a cluster: the first is missing or local on many parallel file
systems, the second outlives a killed process. So the lock is a file created exclusively that names its holder, and a
thread of the holder touches it. A holder on this host is dead when its process is gone; one elsewhere when its
heartbeat has stood still for as long as *we* watched it, so clocks need not agree.
"""

import contextlib
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

from dae_ssl.store import StoreError, explained

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
def held(path: Path, *, wait: bool = True, tell: Callable[[str], None] = print) -> Iterator[Lock]:
    """Hold the lock at `path` while the block runs.

    When another process holds it, say so once with `tell` and wait, or raise Locked if not to `wait`. A lock left by a
    dead process is taken over.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path, secrets.token_hex(8))
    _acquire(lock, wait, tell)
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
    """Return who holds the lock, in words, or None when nobody does or the holder is known to be dead."""
    found = _read(path)
    return None if found is None or _dead_here(found) else _words(found)


def _acquire(lock: Lock, wait: bool, tell: Callable[[str], None]) -> None:
    seen: tuple[str, int] | None = None
    seen_since = time.monotonic()
    told = False
    while not _create(lock.path, lock.token):
        found = _read(lock.path)
        if found is None:
            continue
        pulse = (found["token"], found["beat"])
        if pulse != seen:
            seen, seen_since = pulse, time.monotonic()
        if _dead_here(found) or time.monotonic() - seen_since > STALE_SECONDS:
            tell(f"recovering {lock.path.parent} from {_words(found)}, which is no longer running")
            _remove_stale(lock.path, found["token"], lock.token)
            continue
        if not wait:
            raise Locked(f"{lock.path.parent} is being computed by {_words(found)}: wait for it, or stop it")
        if not told:
            tell(f"waiting for {lock.path.parent}, which is being computed by {_words(found)}")
            told = True
        time.sleep(POLL_SECONDS)


def _identity(token: str) -> dict[str, object]:
    pid = os.getpid()
    return {"token": token, "host": socket.gethostname(), "space": _process_space(), "pid": pid,
            "started": _started(pid), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}  # fmt: skip


def _create(path: Path, token: str) -> bool:
    """Create the lock file, whole, only if there is none: written aside and linked, since a link never overwrites."""
    aside = path.with_name(f".{path.name}.{token}")
    with explained(path):
        aside.write_text(json.dumps(_identity(token)))
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
    return True


def _remove_stale(path: Path, stale: str, token: str) -> None:
    """Remove the lock with the stale token, and no other.

    Renaming takes exactly one file away. Should it be a newer lock, made since we looked, it is put back; if that comes
    too late its holder's `check` fails, so that two never commit.
    """
    aside = path.with_name(f".{path.name}.stale.{token}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        taken = _read(aside)
        if taken is not None and taken["token"] != stale:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
        return dict(found) | {"beat": path.stat().st_mtime_ns}
    except FileNotFoundError:
        return None


def _beat(lock: Lock, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            found = _read(lock.path)
            if found is None or found["token"] != lock.token:
                return
            os.utime(lock.path)


def _words(found: dict[str, Any]) -> str:
    return f"process {found['pid']} on {found['host']} since {found['since']}"


def _dead_here(found: dict[str, Any]) -> bool:
    """Tell whether the holder ran on this host and is gone; a container or a reboot numbers processes anew."""
    if (found["host"], found["space"]) != (socket.gethostname(), _process_space()):
        return False
    return bool(_started(found["pid"]) != found["started"])


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
