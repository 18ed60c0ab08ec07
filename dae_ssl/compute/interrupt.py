"""Requests to stop: signals that a training answers at its next step and other stages at once; and a time budget."""

import contextlib
import ctypes
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class Stopped(Exception):
    """This process stopped, because it or another rank received a signal to stop."""

    def __init__(self, number: signal.Signals, what: str) -> None:
        super().__init__(what)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that a shell uses for this signal: 128 + its number."""
        return 128 + self.number


@dataclass
class StopRequest:
    """Whether the process was asked to stop, and by which signal."""

    number: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.number is not None


@dataclass(frozen=True)
class Budget:
    """The minutes that a run may take; None means no limit. It returns True when called after they are over."""

    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic
    began: float | None = None
    """The time on the clock from which the minutes count; None means now."""
    _ends: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        began = self.clock() if self.began is None else self.began
        object.__setattr__(self, "_ends", float("inf") if self.minutes is None else began + 60 * self.minutes)

    def __call__(self) -> bool:
        return self.clock() >= self._ends


@dataclass
class _Note:
    """A signal handler that notes the request to stop."""

    request: StopRequest

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.request.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request.number = self.request.number or signal.Signals(
            number
        )  # the first signal counts: SLURM sends SIGTERM later


def _noted_before() -> signal.Signals | None:
    """Return the signal that an enclosing block has noted, which counts here too."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler.request.number if isinstance(handler, _Note) else None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM, SIGINT and SIGUSR2 while the block runs, instead of dying; a second SIGINT interrupts at once."""
    request = StopRequest(_noted_before())
    note = _Note(request)
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Raise Stopped at SIGTERM, SIGINT and SIGUSR2 while the block runs: for work that cannot be saved."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number), f"stopped by {signal.Signals(number).name} before this stage was done")

    if (asked := _noted_before()) is not None:
        stop(asked, None)
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_parent() -> None:
    """Make Linux kill this process when its parent ends for whatever reason; other systems cannot.

    Otherwise the ranks of a killed launcher would go on computing, and hold the lock of their node.
    """
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
