"""An exclusive lock for each node, on any shared file system: a file with a heartbeat, recovered if its holder dies.

Neither `flock` nor the existence of a file is enough on a cluster: `flock` is missing or local on many parallel file
systems, and a file outlives a killed process. So the lock is a file that is created exclusively and names its holder,
and a thread of the holder touches it. A holder on this host is dead if its process is gone; a holder on another host
is dead if its heartbeat has stood still while *this* process watched it, so that clocks need not agree.

`filelock.SoftFileLease` is similar, but recovers no lock on file systems that cannot exchange two names, such as NFS,
and none that a power cut has emptied: a dead holder would block its node for ever.
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
    """Another process holds the lock; the message names it and the time since when."""


@dataclass(frozen=True)
class Lock:
    """A lock that this process has acquired; `check` verifies that it still holds it."""

    path: Path
    token: str

    def check(self) -> None:
        """Raise StoreError if another process took the lock over, for example while this one was suspended."""
        holder = _read(self.path)
        if holder is None or holder["token"] != self.token:
            raise StoreError(
                f"{self.path} was taken over by another process while this one was suspended: "
                "this one stops, and the other continues"
            )


@contextlib.contextmanager
def held(
    path: Path,
    *,
    wait: bool = True,
    tell: Callable[[str], None] = print,
    give_up: Callable[[], bool] = lambda: False,
) -> Iterator[Lock]:
    """Hold the lock at `path` while the block runs.

    If another process holds it, `tell` receives one line and this process waits; it raises Locked instead if `wait` is
    False, or as soon as `give_up` returns True. A lock left by a dead process is taken over; on another host it takes
    seconds to a minute to see whether the holder is dead, which is waited for even if `wait` is False.
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
    """Return a description of the lock's holder, or None if there is none or it seems to be dead.

    A holder on another host is judged by one look at its heartbeat and this host's clock, which is good enough for
    display; `held` does not rely on it.
    """
    identity = _read(path)
    if identity is None or _runs_here(identity) is False:
        return None
    silent_seconds = time.time() - identity["beat"] / 1e9
    return None if _runs_here(identity) is None and silent_seconds > STALE_SECONDS else _words(identity)


def _acquire(lock: Lock, wait: bool, tell: Callable[[str], None], give_up: Callable[[], bool]) -> None:
    seen: tuple[str, int] | None = None
    seen_since, waiting = time.monotonic(), False
    while not _create(lock):
        identity = _read(lock.path)
        if identity is None:
            continue
        running, pulse = _runs_here(identity), (identity["token"], identity["beat"])
        if pulse != seen:
            if running is None and seen is not None:
                running = True  # its heartbeat moved while this process watched
            seen, seen_since = pulse, time.monotonic()
        if running is False or time.monotonic() - seen_since > STALE_SECONDS:
            tell(f"recovering {lock.path.parent} from {_words(identity)}, which is no longer running")
            if _take_over(lock, pulse):
                return
            continue
        if (running and not wait) or give_up():
            raise Locked(f"{lock.path.parent} is being computed by {_words(identity)}: wait for it, or stop it")
        if not waiting:
            tell(f"waiting for {lock.path.parent}, which is being computed by {_words(identity)}")
            waiting = True
        time.sleep(POLL_SECONDS)


def _identity(token: str) -> dict[str, object]:
    pid = os.getpid()
    return {"token": token, "host": socket.gethostname(), "space": _process_space(), "pid": pid,
            "started": _started(pid), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}  # fmt: skip


def _create(lock: Lock) -> bool:
    """Create the lock file if there is none: written under another name and linked, since a link never overwrites."""
    aside = lock.path.with_name(f"{_hidden(lock.path)}.{lock.token}")
    with explained(lock.path):
        if lock.path.exists():
            return False
        try:
            with aside.open("w") as file:
                file.write(json.dumps(_identity(lock.token)))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # NFS may raise this although it has made the link
                os.link(aside, lock.path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
    identity = _read(lock.path)
    return identity is not None and identity["token"] == lock.token


def _take_over(lock: Lock, stale: tuple[str, int]) -> bool:
    """Replace a stale lock, given its token and last beat, by this process's; return whether that succeeded.

    If many processes see the same stale lock, only one at a time may try: the holder of a lock named after its token.
    The lock file exists all the time, so that no newer lock is overwritten and no two processes believe they hold it.
    """
    guard = lock.path.with_name(f"{_hidden(lock.path)}.stale.{stale[0]}")
    with held(guard, tell=lambda _text: None):
        identity = _read(lock.path)
        if identity is None or (identity["token"], identity["beat"]) != stale:
            return False
        write_json(lock.path, _identity(lock.token))
    return True


def _hidden(path: Path) -> str:
    return f".{path.name.removeprefix('.')}"


def _read(path: Path) -> dict[str, Any] | None:
    """Return the holder as `_identity` describes it, with the time of its last beat; None if there is no lock."""
    try:
        content, status = path.read_bytes(), path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # NFS: another host has removed it meanwhile
            return None
        raise
    # A power cut may have emptied the file: nothing touches it any more, so it grows stale like any other.
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
            identity = _read(lock.path)
            if identity is None or identity["token"] != lock.token:
                return
            os.utime(lock.path)


def _words(identity: dict[str, Any]) -> str:
    return f"process {identity['pid']} on {identity['host']} since {identity['since']}"


def _runs_here(identity: dict[str, Any]) -> bool | None:
    """Return whether the holder runs on this host; None if that cannot be known from here.

    Containers and reboots start process ids again, and a cluster may hide other users' processes from /proc.
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
    """Return an identifier of this boot and process namespace, within which process ids are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; a later process with the same id started later."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else rest[18]
