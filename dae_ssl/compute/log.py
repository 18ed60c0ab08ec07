"""The append-only log of a node: the truth about what happened, on the store's own disk.

It consists of JSON lines, each written by one `write`, so that a process that is killed can tear only the last one.
"""

import contextlib
import errno
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dae_ssl.files import explained

ASKED_TO = ("Interrupted", "Stopped", "KeyboardInterrupt", "SystemExit", "Locked")
"""Names of errors in the event `stopped` that mean that a stage was asked to stop, not that it failed."""


class Log:
    """Appends to the log of a node; it can be called with a step and its terms, as the `log` of a training loop.

    Each line is one `write` to a file opened for appending, so a killed process can tear only the last one; opening
    the log again ends that line. JSON has no NaN or infinity: they are written as the strings "NaN", "Infinity" and
    "-Infinity", which any JSON reader accepts and `float` reads back. Raises StoreError, one line with the path, if
    the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with explained(path):
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
        if self._torn:
            self._write(b"")

    def __call__(self, step: int, terms: Mapping[str, float]) -> None:
        """Append the values of a step's terms."""
        self._append({"time": time.time(), "step": int(step), "terms": {k: float(v) for k, v in terms.items()}})

    def event(self, kind: str, /, **fields: object) -> None:
        """Append an event with its fields; the names `time` and `event` are reserved."""
        if reserved := {"time", "event"} & fields.keys():
            raise ValueError(f"event field {min(reserved)!r} is written by the log itself: choose another name")
        self._append({"time": time.time(), "event": kind} | fields)

    def close(self) -> None:
        """Close the file; the log can be opened again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, line: Mapping[str, object]) -> None:
        self._write(json.dumps(_plain(line), allow_nan=False).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        content = b"\n" + line if self._torn else line
        self._torn = True
        with explained(self.path):
            if os.write(self._file, content) < len(content):  # the disk had room for a part only
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._torn = False


@dataclass(frozen=True)
class Entry:
    """One line of a log: the terms of a step, or an event."""

    time: float
    """Seconds since 1970."""
    step: int | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    event: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Iterator[Entry]:
    """Yield the entries of a log in order, without torn lines; a log that does not exist has none."""
    yield from Tail(path).entries()


def curves(path: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return each term's points (step, value, time in seconds) in the order of the log, one for each step.

    A resumed run logs some steps again, with the same values; the first entry is kept, so that a point never changes.
    """
    by_term: dict[str, dict[int, tuple[int, float, float]]] = {}
    for entry in read(path):
        if entry.step is not None:
            for term, value in entry.terms.items():
                by_term.setdefault(term, {}).setdefault(entry.step, (entry.step, value, entry.time))
    return {term: list(points.values()) for term, points in by_term.items()}


class Tail:
    """Reads the entries that were added to a log since it was last read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: float | None = None
        self.last: float | None = None
        self._offset = 0

    def entries(self) -> Iterator[Entry]:
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._offset:  # the node was deleted and is computed again
                self._offset = 0
            file.seek(self._offset)
            for line in file:
                entry = _parsed(line)
                if entry is None and not line.endswith(b"\n"):
                    return  # being written, or torn: the next read will show. No part of a JSON object is an object.
                self._offset += len(line)
                if entry is not None:
                    self.first = entry.time if self.first is None else min(self.first, entry.time)
                    self.last = entry.time if self.last is None else max(self.last, entry.time)
                    yield entry


def _parsed(line: bytes) -> Entry | None:
    try:
        raw = json.loads(line)
        if "event" in raw:
            fields = {name: value for name, value in raw.items() if name not in ("time", "event")}
            return Entry(float(raw["time"]), event=str(raw["event"]), fields=fields)
        terms = {str(term): float(value) for term, value in raw["terms"].items()}
        return Entry(float(raw["time"]), step=int(raw["step"]), terms=terms)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _plain(value: object) -> object:
    """Return the value in a form that strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
