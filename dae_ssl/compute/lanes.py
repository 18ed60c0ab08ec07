"""The lanes of this machine: long-lived processes, each of which computes one node after another beside the others.

`lane` is inside one; `shares` says which there are.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterable, Sequence
from typing import IO, Any, Self

from dae_ssl import config
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.compute.processes import TASK_CODES
from dae_ssl.compute.shares import Kind
from dae_ssl.files import StoreError


class Lane:
    """A lane, its process, and the node that it computes.

    The process is started when there is a first node for it, and anew after a node that failed: whatever state such a
    one left in it, as a broken CUDA context, is nothing for the next.
    """

    def __init__(self, number: int, kind: Kind, command: Sequence[str]) -> None:
        self.number, self.kind = number, kind
        self.busy = False
        self.had: set[NodeId] = set()
        """Every node that it was given."""
        self._node: Node | None = None
        self._command = (*command, f"--device={kind.device}", f"--gpu-share={kind.gpu_share:g}")
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_stop = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def node(self) -> Node:
        """What it computes, or computed last."""
        assert self._node is not None
        return self._node

    def give(self, node: Node) -> None:
        """Have a node computed."""
        if self._process is not None and self._process.poll() is not None:  # it died while it had nothing to do
            self.kill()
        if self._process is None:
            self._start()
        self._node, self.busy = node, True
        self.had.add(node.id)
        line = json.dumps({"stage": node.stage, "settings": config.settings(node.cell)})
        with contextlib.suppress(BrokenPipeError):  # it has died, which its answers will tell
            self._pipe("stdin").write(f"{line}\n".encode())
            self._pipe("stdin").flush()

    def stop(self) -> None:
        """Ask it once to save what it can and end what it does."""
        if self._process is not None and not self._asked_to_stop:
            self._asked_to_stop = True
            self._process.terminate()

    def release(self, *, keep: bool) -> None:
        """Be free for another node, which the same process computes if that is to be kept."""
        self.busy = False
        if not keep:
            self.kill()

    def kill(self) -> None:
        """End its process now, and with that what it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for name in ("stdin", "stdout", "stderr"):
                with contextlib.suppress(BrokenPipeError):
                    self._pipe(name).close()
        self._process, self.busy = None, False

    def outlets(self) -> list[IO[bytes]]:
        """Return what to wait at for its answers."""
        return [] if self._process is None else [self._pipe("stdout"), self._pipe("stderr")]

    def answers(self) -> list[list[Any]]:
        """Return what it has answered since, as lane.py lists it; beside that ["warn", LINE], or ["died", REASON]."""
        if self._process is None:
            return []
        code = self._process.poll()  # before reading, so that a dead one's last words are read
        said = [json.loads(line) for line in self._said.lines()]  # first, since it complains before it answers
        complained = [["warn", line] for line in self._complained.lines(last=code is not None)]
        died = code is not None and all(answer[0] != "ended" for answer in said)
        return [*complained, *said, *([["died", _reason(code)]] if code is not None and died else [])]

    def _start(self) -> None:
        pipe, environment = subprocess.PIPE, {name: os.environ[name] for name in os.environ if name != TASK_CODES}
        self._asked_to_stop = False
        try:
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment | dict(self.kind.variables),
                start_new_session=True,  # a terminal's Ctrl-C is for this process, which asks the lanes to stop
            )  # fmt: skip
        except OSError as error:  # as too many open files or processes
            advice = "choose fewer with --parallel N; what is finished stays"
            raise StoreError(f"process {self.number + 1} cannot be started: {error.strerror}: {advice}") from error
        self._said, self._complained = _Lines(self._pipe("stdout")), _Lines(self._pipe("stderr"))

    def _pipe(self, name: str) -> IO[bytes]:
        pipe: IO[bytes] = getattr(self._process, name)
        return pipe


class _Lines:
    """The lines of a pipe, read without waiting."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._file, self._begun = pipe.fileno(), b""
        os.set_blocking(self._file, False)

    def lines(self, *, last: bool = False) -> list[str]:
        """Return the whole lines that came since, and of a pipe that is written no more also a torn last one."""
        try:
            while read := os.read(self._file, 1 << 16):
                self._begun += read
        except BlockingIOError:
            pass
        *whole, self._begun = self._begun.split(b"\n")
        if last and self._begun:
            whole, self._begun = [*whole, self._begun], b""
        return [line.decode(errors="replace") for line in whole]


def wait(lanes: Iterable[Lane], seconds: float) -> None:
    """Wait until one of the lanes has something to say, but no longer than that."""
    with selectors.PollSelector() as selector:  # `select` takes no file above number 1023
        for lane in lanes:
            for outlet in lane.outlets():
                selector.register(outlet, selectors.EVENT_READ)
        selector.select(seconds)


def _reason(code: int) -> str:
    if code >= 0:
        return f"its process ended by itself, with exit code {code}"
    number = signal.Signals(-code)
    return f"its process was killed by {number.name}" + (": out of memory?" if number == signal.SIGKILL else "")
