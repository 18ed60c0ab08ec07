"""The lanes of this machine: long-lived processes side by side, each of which computes one node after another.

`lane` is the program that such a process runs; `shares` decides how many lanes there are.
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

    The process starts with the lane's first node, and again after a node that failed, since a failure may leave a
    broken state, such as a broken CUDA context, in which the next node would fail too.
    """

    def __init__(self, number: int, kind: Kind, command: Sequence[str]) -> None:
        self.number, self.kind = number, kind
        self.busy = False
        self.had: set[NodeId] = set()
        """All nodes that it has been given."""
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
        """The node that it computes, or computed last."""
        assert self._node is not None
        return self._node

    def give(self, node: Node) -> None:
        """Start to compute a node."""
        if self._process is not None and self._process.poll() is not None:  # it died while it was idle
            self.kill()
        if self._process is None:
            self._start()
        self._node, self.busy = node, True
        self.had.add(node.id)
        line = json.dumps({"stage": node.stage, "settings": config.settings(node.cell)})
        with contextlib.suppress(BrokenPipeError):  # it has died, which `answers` reports
            self._pipe("stdin").write(f"{line}\n".encode())
            self._pipe("stdin").flush()

    def stop(self) -> None:
        """Ask its process, once, to save what it can and to stop."""
        if self._process is not None and not self._asked_to_stop:
            self._asked_to_stop = True
            self._process.terminate()

    def release(self, *, keep: bool) -> None:
        """Become free for another node; `keep` says whether the same process may compute it."""
        self.busy = False
        if not keep:
            self.kill()

    def kill(self) -> None:
        """Kill its process, and with it the node's computation."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for name in ("stdin", "stdout", "stderr"):
                with contextlib.suppress(BrokenPipeError):
                    self._pipe(name).close()
        self._process, self.busy = None, False

    def outlets(self) -> list[IO[bytes]]:
        """Return the pipes on which its answers arrive."""
        return [] if self._process is None else [self._pipe("stdout"), self._pipe("stderr")]

    def answers(self) -> list[list[Any]]:
        """Return its new answers, as lane.py lists them, and further ["warn", LINE] and ["died", REASON]."""
        if self._process is None:
            return []
        code = self._process.poll()  # before reading, so that the last lines of a dead process are read
        answers = [json.loads(line) for line in self._output.lines()]  # first, since a lane warns before it answers
        warnings = [["warn", line] for line in self._errors.lines(last=code is not None)]
        died = code is not None and all(answer[0] != "ended" for answer in answers)
        return [*warnings, *answers, *([["died", _reason(code)]] if code is not None and died else [])]

    def _start(self) -> None:
        pipe, environment = subprocess.PIPE, {name: os.environ[name] for name in os.environ if name != TASK_CODES}
        self._asked_to_stop = False
        try:
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment | dict(self.kind.variables),
                start_new_session=True,  # a terminal's Ctrl-C reaches only this process, which asks the lanes to stop
            )  # fmt: skip
        except OSError as error:  # for example too many open files or processes
            advice = "choose fewer with --parallel N; finished nodes are kept"
            raise StoreError(f"process {self.number + 1} cannot be started: {error.strerror}: {advice}") from error
        self._output, self._errors = _Lines(self._pipe("stdout")), _Lines(self._pipe("stderr"))

    def _pipe(self, name: str) -> IO[bytes]:
        pipe: IO[bytes] = getattr(self._process, name)
        return pipe


class _Lines:
    """The lines of a pipe, read without waiting."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._file, self._begun = pipe.fileno(), b""
        os.set_blocking(self._file, False)

    def lines(self, *, last: bool = False) -> list[str]:
        """Return the new whole lines; with `last`, if nothing more will be written, also an incomplete last line."""
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
    """Wait until one of the lanes has an answer, but at most so many seconds."""
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
