"""The lock: one holder at a time, whoever dies, wherever, and however many want it."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dae_ssl import lock
from dae_ssl.files import StoreError, write_json
from tests.patience import PATIENCE, until

ROOT = Path(__file__).parents[1]

HOLD = """
import os, sys, time
from pathlib import Path
from dae_ssl import lock
with lock.held(Path(sys.argv[1]), wait=len(sys.argv) < 3) as held:
    print("inside", flush=True)
    for line in sys.stdin:
        held.check()
"""

# The counter is read, left for a moment, and written: two processes inside at once lose counts, or find the marker.
# At the end of every round the lock is made to look as if its holder had died, so that all race to recover it.
RACE = """
import json, os, sys, time
from pathlib import Path
from dae_ssl import lock
lock.POLL_SECONDS = 0.002
node, rounds = Path(sys.argv[1]), int(sys.argv[2])
path, counter, marker = node / "lock", node / "counter", node / "inside"
for _ in range(rounds):
    with lock.held(path, tell=lambda text: None) as held:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        count = int(counter.read_text())
        time.sleep(0.0005)
        counter.write_text(str(count + 1))
        marker.unlink()
        held.check()
        left = json.loads(path.read_text()) | {"token": os.urandom(8).hex(), "started": "1"}
        forged = node / f"forged{os.getpid()}"
        forged.write_text(json.dumps(left))
        forged.replace(path)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python processes that are killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "STALE_SECONDS", 1.0)


def inside(process: "subprocess.Popen[str]") -> None:
    """Wait until the process says that it holds the lock."""
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == "inside\n", process.communicate()[1] or said


def waits(path: Path) -> tuple[threading.Thread, list[str], threading.Event]:
    """Ask for the lock in a thread; return it, what it was told, and whether it got in."""
    told: list[str] = []
    entered = threading.Event()

    def work() -> None:
        with lock.held(path, tell=told.append):
            entered.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, told, entered


def forge(path: Path, **changes: Any) -> None:
    """Write the lock of a process on another host."""
    identity = {"token": "0123456789abcdef", "host": "elsewhere", "space": "boot x", "pid": 1, "started": "9"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, identity | {"since": "2023-02-01 12:00:00"} | changes)


def own_identity(path: Path) -> dict[str, Any]:
    with lock.held(path):
        return dict(json.loads(path.read_text()))


def test_lock_file_is_gone_after_the_block_and_after_an_error_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node" / "lock"
    with lock.held(path) as held:
        held.check()
        assert lock.holder(path) is not None
    with pytest.raises(ZeroDivisionError), lock.held(path):
        raise ZeroDivisionError
    assert lock.holder(path) is None
    assert list(path.parent.iterdir()) == []


def test_second_process_waits_and_says_for_whom(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "node" / "lock"
    first = start(HOLD, path)
    inside(first)
    thread, told, entered = waits(path)
    assert not entered.wait(0.3)
    assert len(told) == 1
    assert f"process {first.pid} on {socket.gethostname()}" in told[0]
    assert f"waiting for {path.parent}" in told[0]
    first.communicate("")
    thread.join(PATIENCE)
    assert entered.is_set()


def test_second_process_that_may_not_wait_says_who_holds_it(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "node" / "lock"
    first = start(HOLD, path)
    inside(first)
    with pytest.raises(lock.Locked) as caught, lock.held(path, wait=False):
        pytest.fail("two processes hold one lock")
    message = str(caught.value)
    assert f"process {first.pid} on {socket.gethostname()} since 20" in message
    assert "\n" not in message
    assert lock.holder(path) in message


def test_killed_holder_on_this_host_is_recovered_at_once(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE_SECONDS", 1e9)
    path = tmp_path / "node" / "lock"
    first = start(HOLD, path)
    inside(first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert path.exists()
    assert lock.holder(path) is None
    told: list[str] = []
    with lock.held(path, wait=False, tell=told.append) as held:
        held.check()
    assert told == [line for line in told if line.startswith(f"recovering {path.parent} from process {first.pid}")]
    assert len(told) == 1
    assert list(path.parent.iterdir()) == []


def test_zombie_does_not_hold_a_lock(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_SECONDS", 1e9)
    path = tmp_path / "node" / "lock"
    first = start(HOLD, path)
    inside(first)
    first.send_signal(signal.SIGKILL)  # and not waited for, so that its number stays in the process table
    until(lambda: Path(f"/proc/{first.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z")
    with lock.held(path, wait=False):
        assert f"process {os.getpid()} " in str(lock.holder(path))


def test_later_process_with_the_number_of_the_holder_does_not_hold_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "node" / "lock"
    identity = own_identity(path)
    write_json(path, identity | {"started": str(int(identity["started"]) - 1)})
    assert lock.holder(path) is None
    write_json(path, identity)
    assert lock.holder(path) is not None  # this very process, still running
    with pytest.raises(lock.Locked), lock.held(path, wait=False):
        pytest.fail("taken from a running process")


def test_process_hidden_from_us_is_not_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters mount /proc with hidepid, where another user's process cannot be seen but can be refused a signal."""
    path = tmp_path / "node" / "lock"
    write_json(path, own_identity(path))

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(lock, "_started", lambda _pid: None)
    monkeypatch.setattr(lock.os, "kill", refuse)
    assert lock.holder(path) is not None


def test_beating_holder_elsewhere_is_waited_for_and_a_still_one_recovered(tmp_path: Path) -> None:
    path = tmp_path / "node" / "lock"
    forge(path)
    thread, told, entered = waits(path)
    began = time.monotonic()
    while time.monotonic() - began < 2.0:  # twice as long as a still one is given
        os.utime(path)
        assert not entered.wait(0.1)
    stopped = time.monotonic()
    thread.join(PATIENCE)
    assert entered.is_set()
    assert time.monotonic() - stopped > 0.7
    assert [line.split(" ", 1)[0] for line in told] == ["waiting", "recovering"]
    assert "process 1 on elsewhere since 2023-02-01" in told[0]


def test_clock_of_the_other_host_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "node" / "lock"
    forge(path)
    os.utime(path, (4e9, 4e9))  # in the year 2096
    began = time.monotonic()
    with lock.held(path, tell=lambda _text: None):
        assert 0.9 < time.monotonic() - began < 20


def test_clock_that_is_moved_back_while_the_other_host_beats_does_not_kill_it(tmp_path: Path) -> None:
    path = tmp_path / "node" / "lock"
    forge(path)
    thread, told, entered = waits(path)
    for beat in range(20):  # for twice as long as a still one is given
        os.utime(path, (1e9 - 3600 * beat, 1e9 - 3600 * beat))
        assert not entered.wait(0.1)
    thread.join(PATIENCE)
    assert [line.split(" ", 1)[0] for line in told] == ["waiting", "recovering"]


def test_holder_that_is_suspended_is_superseded_and_learns_of_it_when_it_goes_on(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "node" / "lock"
    first = start(HOLD, path)
    inside(first)
    first.send_signal(signal.SIGSTOP)
    with lock.held(path, tell=lambda _text: None) as held:
        first.send_signal(signal.SIGCONT)
        _, errors = first.communicate("work\n")
        assert "taken over" in errors
        held.check()
        assert f"process {os.getpid()} " in str(lock.holder(path))
    assert list(path.parent.iterdir()) == []


def test_process_that_may_not_wait_recovers_the_dead_elsewhere_but_not_the_living(tmp_path: Path) -> None:
    """A job that is requeued to another node after a crash finds its own old lock there."""
    path = tmp_path / "node" / "lock"
    forge(path)
    with lock.held(path, wait=False, tell=lambda _text: None):
        assert f"process {os.getpid()} " in str(lock.holder(path))
    forge(path)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(lock.Locked, match="elsewhere"), lock.held(path, wait=False, tell=lambda _text: None):
            pytest.fail("taken from a living holder")
    finally:
        stop.set()
        beating.join()


@pytest.mark.parametrize("content", [b"", b'{"token": "01', b"\xff\x00\xfe", b"\0" * 200, b"{}", b"[]", b"null"])
def test_lock_emptied_or_spoilt_by_a_power_cut_does_not_block_for_ever(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node" / "lock"
    path.parent.mkdir()
    path.write_bytes(content)
    assert lock.holder(path) is not None  # it may still be written to
    with lock.held(path, tell=lambda _text: None) as held:
        held.check()


def test_process_killed_while_it_recovers_does_not_block_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "node" / "lock"
    identity = own_identity(path) | {"started": "1"}
    write_json(path, identity | {"token": "dead"})
    write_json(path.parent / ".lock.stale.dead", identity | {"token": "deadtoo"})
    write_json(path.parent / ".lock.stale.dead.stale.deadtoo", identity | {"token": "deadthree"})
    with lock.held(path, wait=False, tell=lambda _text: None) as held:
        held.check()
    assert list(path.parent.iterdir()) == []


def test_holder_that_beats_is_never_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_runs_here", lambda _found: None)  # as if every process were on another host
    path = tmp_path / "node" / "lock"
    with lock.held(path) as held:
        _thread, told, entered = waits(path)
        assert not entered.wait(2.0)
        held.check()
    assert entered.wait(20)
    assert len(told) == 1


def test_holder_that_lost_its_lock_is_told_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "node" / "lock"
    with lock.held(path) as held:
        forge(path)
        with pytest.raises(StoreError, match="taken over"):
            held.check()
    assert "elsewhere" in str(lock.holder(path))
    path.unlink()
    with pytest.raises(StoreError, match="taken over"):
        held.check()


def test_link_that_is_made_but_said_to_exist_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats a request whose answer was lost, and then answers that the link is there already."""
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(lock.os, "link", link_twice)
    with lock.held(tmp_path / "node" / "lock", wait=False) as held:
        held.check()


def test_lock_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught, lock.held(tmp_path / "file" / "node" / "lock"):
        pytest.fail("there is no such folder")
    assert "\n" not in str(caught.value)


def test_lock_on_a_read_only_file_system_is_one_line_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_mode: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    (tmp_path / "node").mkdir()
    monkeypatch.setattr(Path, "open", refuse)
    refused = pytest.raises(StoreError, match="the file system is read-only")
    with refused as caught, lock.held(tmp_path / "node" / "lock"):
        pytest.fail("nothing can be written there")
    assert "\n" not in str(caught.value)


def test_process_late_to_recover_a_stale_lock_never_moves_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node" / "lock"
    write_json(path, own_identity(path) | {"token": "stale", "started": "1"})
    judged, go_on, absent = threading.Event(), threading.Event(), []
    main, runs_here, read = threading.current_thread(), lock._runs_here, lock._read

    def judge_slowly(found: dict[str, Any]) -> bool | None:
        answer = runs_here(found)
        if threading.current_thread() is not main and found["token"] == "stale":
            judged.set()
            assert go_on.wait(20)
        return answer

    def look_for_it_and_read(asked: Path) -> dict[str, Any] | None:
        if go_on.is_set() and not path.exists():
            absent.append(asked)
        return read(asked)

    monkeypatch.setattr(lock, "_runs_here", judge_slowly)
    thread, told, entered = waits(path)
    assert judged.wait(20)
    with lock.held(path, tell=lambda _text: None) as held:
        monkeypatch.setattr(lock, "_read", look_for_it_and_read)
        go_on.set()
        while not any(line.startswith("waiting") for line in told):
            time.sleep(0.01)
        held.check()
        assert not absent
        assert not entered.is_set()
        monkeypatch.setattr(lock, "_read", read)
    thread.join(PATIENCE)
    assert entered.is_set()


@pytest.mark.slow
def test_of_many_processes_that_recover_a_stale_lock_one_at_a_time_is_inside(tmp_path: Path, start: Start) -> None:
    processes, rounds = 8, 25
    (tmp_path / "counter").write_text("0")
    racing = [start(RACE, tmp_path, rounds) for _ in range(processes)]
    for process in racing:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    assert (tmp_path / "counter").read_text() == str(processes * rounds)


@pytest.mark.parametrize(("still_seconds", "held"), [(0, True), (2 * lock.STALE_SECONDS, False)])
def test_holder_on_another_host_is_told_only_while_its_heart_beats(
    still_seconds: float, held: bool, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    elsewhere = {"token": "x", "host": "elsewhere", "space": "y", "pid": 1, "started": "1", "since": "now"}
    path.write_text(json.dumps(elsewhere))
    beat = time.time() - still_seconds
    os.utime(path, (beat, beat))
    assert (lock.holder(path) is not None) == held
