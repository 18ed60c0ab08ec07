"""Requests to stop: signals, noted and answered at the next step or raised where nothing can be saved; and a budget."""

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
    """This process, or a rank it works with, was asked to stop by a signal, and did."""

    def __init__(self, number: signal.Signals, what: str) -> None:
        super().__init__(what)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that says so, as a shell would."""
        return 128 + self.number


@dataclass
class StopRequest:
    """Whether the process was asked to stop, and by which signal."""

    number: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.number is not None


@dataclass(frozen=True)
class Budget:
    """The minutes that a run may take, asked beside a request to stop; None is as long as it takes."""

    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic
    began: float | None = None
    """The time on the clock from which the minutes count; None is now."""
    _ends: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        began = self.clock() if self.began is None else self.began
        object.__setattr__(self, "_ends", float("inf") if self.minutes is None else began + 60 * self.minutes)

    def __call__(self) -> bool:
        return self.clock() >= self._ends


@dataclass
class _Note:
    """A handler that notes a request."""

    request: StopRequest

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.request.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request.number = self.request.number or signal.Signals(number)  # SIGTERM may follow what it was asked for


def _noted_before() -> signal.Signals | None:
    """Return the request that a block around this one has noted, which counts here too."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler.request.number if isinstance(handler, _Note) else None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM, SIGINT and SIGUSR2 instead of dying of them, while the block runs; a second SIGINT interrupts."""
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
    """Raise Stopped at SIGTERM, SIGINT and SIGUSR2 while the block runs, which has nothing to save."""

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
    """Have this process killed when its parent ends, however that ends; where the system can do it.

    A killed launcher would otherwise leave ranks behind that compute on, and hold the lock of their node.
    """
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
