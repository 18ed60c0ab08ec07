"""Requests to stop, taken as signals and answered at the next step."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


@dataclass
class StopRequest:
    """Whether the process was asked to stop, and by which signal."""

    number: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.number is not None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM, SIGINT and SIGUSR2 instead of dying of them, while the block runs; a second SIGINT interrupts."""
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        if request.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        request.number = signal.Signals(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
