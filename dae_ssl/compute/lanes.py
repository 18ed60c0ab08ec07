"""The lanes of this machine: which there are, and the processes that they are.

A lane computes one node after another, side by side with the others. On a GPU two of them pretrain, extract features
and probe, so that one's compiling, features and probe hide behind the other's steps; k-means, which is work for a CPU,
has a lane of its own and runs beside the next cell's training. Without a GPU all lanes are alike and share the
processors.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Self

from dae_ssl import config
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.compute.processes import TASK_CODES
from dae_ssl.compute.resources import Resources
from dae_ssl.config import require
from dae_ssl.files import StoreError

LANES_OF_A_GPU = 2
MOST_OF_EACH = 4
"""Lanes at most for each processor, or for each GPU where these are more."""
ON_CPU = "kmeans"
"""The stage that uses no GPU."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a lane computes and with what, which changes nothing of what is computed."""

    stages: frozenset[str] = frozenset(config.STAGES)
    device: str = "auto"
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment of its process, beside what this one has."""


def gpus(device: str) -> list[str]:
    """Return the GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    import torch

    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def deal(lanes: int | None, pretrain: Resources, device: str, visible: Sequence[str], processors: int) -> list[Kind]:
    """Return the lanes of this machine: so many for training, dealt round over its GPUs, and on a GPU one for k-means.

    None asks for `packing`, or two for each GPU, or one. Processors are shared evenly unless
    OMP_NUM_THREADS says what each is to have. Raises ConfigError for several lanes where one cell takes all ranks, and
    for more than the machine can be meant to have.
    """
    alone = pretrain.ranks > 1
    require(not alone or lanes in (None, 1), "--parallel", lanes, f"1 with {pretrain.ranks} ranks a cell")
    most = MOST_OF_EACH * max(processors, len(visible))
    told = f"{most} at most: {MOST_OF_EACH} for each of {processors} processors, or of {len(visible)} GPUs"
    require(lanes is None or lanes <= most, "--parallel", lanes, told)
    usual = 1 if alone else pretrain.packing if pretrain.packing > 1 else LANES_OF_A_GPU * len(visible) or 1
    count = lanes or usual
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, processors // (count + bool(visible))))
    share = {"OMP_NUM_THREADS": threads}
    if not visible:
        return [Kind(device=device, variables=share if count > 1 else {})] * count
    stages = frozenset(config.STAGES) - {ON_CPU}
    on_gpu = [
        Kind(stages=stages, device=device, variables={} if alone else share | {"CUDA_VISIBLE_DEVICES": gpu})
        for gpu in (visible[number % len(visible)] for number in range(count))
    ]
    return [*on_gpu, Kind(stages=frozenset({ON_CPU}), device="cpu", variables=share | {"CUDA_VISIBLE_DEVICES": ""})]


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
        self._command = (*command, f"--device={kind.device}")
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
        item = {"stage": node.stage, "key": node.key, "settings": config.settings(node.cell)}
        line = json.dumps(item | {"cell": config.cell_key(node.cell)})
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
        pipe, kept = subprocess.PIPE, {name: value for name, value in os.environ.items() if name != TASK_CODES}
        self._asked_to_stop = False
        try:
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=kept | dict(self.kind.variables),
                start_new_session=True,  # a terminal's Ctrl-C is for this process, which asks the lanes to stop
            )  # fmt: skip
        except OSError as error:  # as too many open files or processes
            told = "choose fewer with --parallel N; what is finished stays"
            raise StoreError(f"lane {self.number + 1} cannot be started: {error.strerror}: {told}") from error
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
