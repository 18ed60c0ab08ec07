"""The copy of a cell's logs, settings and files in MLflow.

The log is the truth: JSON lines, one `write` each, on the store's own disk. MLflow holds a copy, which any process can
make at any time and any number of times: `copy` sends what a run lacks, and `LiveCopy` does so from a thread during
training. A server that is dead, slow or failing costs a line of warning, but never a point or a training step.
"""

import contextlib
import hashlib
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dae_ssl.compute.log import Entry, Tail
from dae_ssl.config import require
from dae_ssl.tracking import server

CELL_TAG = "dae_ssl.cell"
"""The MLflow tag that holds a cell's key, by which its run is found."""

STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
"""MLflow's words for the state of a run."""

# MLflow's limits for one request (mlflow/utils/validation.py); before version 3 a tag's value was limited to 5000.
METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100
NAME_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 5000

LIVE_TIMEOUT_SECONDS = 5
LONGEST_WAIT_SECONDS = 60.0


# ---------------------------------------------------------------------------------- one copy


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """The contents of a cell's MLflow run."""

    experiment: str
    key: str
    """The cell's key, by which its run is found."""
    name: str
    params: Mapping[str, object]
    """Resolved settings, flat."""
    logs: Mapping[str, Path]
    """The log of each stage; its terms become metrics named STAGE/TERM. A log that does not exist counts as empty."""
    tags: Mapping[str, object] = field(default_factory=dict)
    """Where it ran: commit, image, device, host, job."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final scores."""
    artifacts: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """Files by their artifact folder ("" is the top one); no two files of a folder have the same name."""
    status: str = "RUNNING"

    def __post_init__(self) -> None:
        require(self.status in STATUSES, "status", self.status, ", ".join(STATUSES))


@dataclass(frozen=True)
class CopyResult:
    """How much a copy sent; a second copy of the same cell sends nothing."""

    run_id: str
    points_sent: int
    params_sent: int
    artifacts_sent: int


def copy(run: CellRun, uri: str) -> CopyResult:
    """Bring the cell's run in MLflow up to date, creating it if there is none.

    Only what the run lacks is sent, with the steps and times of the log, so copying twice doubles nothing, and the next
    copy completes one that was interrupted. With an SQLite URI, artifacts go to `mlartifacts` next to the database.
    Raises server.TrackError, one line, if MLflow does not accept all of it.
    """
    with server.settings(server.TIMEOUT_SECONDS):
        return _Copier(uri).copy(run)


class _Copier:
    """Copies one cell repeatedly, and remembers what its run has."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._forget()

    def copy(self, run: CellRun) -> CopyResult:
        """Send what is new. After a failure, everything that was remembered is requested from the server again."""
        for attempt in range(3):
            try:
                return self._send(run)
            except server.TrackError:
                self._forget()
                raise
            except Exception as error:
                self._forget()
                if attempt == 2 or not _worth_another_try(error):
                    raise server.TrackError(
                        server.failure(self._uri, f"did not accept all of cell {run.key}: {error}")
                    ) from None
        raise AssertionError("unreachable")

    def _forget(self) -> None:
        self._client: Any = None
        self._tails: dict[str, Tail] = {}
        self._points: dict[str, dict[int, float]] = {}
        self._sizes: dict[str, dict[str, int]] = {}

    def _send(self, run: CellRun) -> CopyResult:
        opening = self._client is None
        if opening:
            self._client = server.client(self._uri)  # before reading the logs, which would be in vain without MLflow
        new = {stage: list(self._tails.setdefault(stage, Tail(path)).entries()) for stage, path in run.logs.items()}
        if opening:
            self._open(run)
        metrics = self._missing_points(new) + self._missing_scores(run)
        params = {_name(name): str(value) for name, value in run.params.items()}
        params = {name: _cut(value, PARAM_LENGTH) for name, value in params.items() if name not in self._params}
        tags = {_name(name): _cut(str(value), TAG_LENGTH) for name, value in run.tags.items() if value is not None}
        tags = {name: value for name, value in tags.items() if self._tags.get(name) != value}
        self._log(metrics, params, tags)
        artifacts_sent = self._send_artifacts(run)
        self._set_status(run)
        return CopyResult(self._run_id, len(metrics), len(params), artifacts_sent)

    def _open(self, run: CellRun) -> None:
        experiment_id = server.experiment(self._client, run.experiment, self._uri)
        began = min((tail.first for tail in self._tails.values() if tail.first is not None), default=time.time())
        existing = _run(self._client, experiment_id, run, _milliseconds(began))
        self._run_id = str(existing.info.run_id)
        self._state = (existing.info.status, existing.info.end_time)
        self._params, self._tags = set(existing.data.params), dict(existing.data.tags)
        self._metric_names = set(existing.data.metrics)

    def _has(self, name: str) -> dict[int, float]:
        """Return the values of a metric that the run has, by step."""
        if name not in self._points:
            known = name in self._metric_names
            points = self._client.get_metric_history(self._run_id, name) if known else []
            self._points[name] = {point.step: point.value for point in points}
        return self._points[name]

    def _missing_points(self, new: Mapping[str, Sequence[Entry]]) -> list[Any]:
        from mlflow.entities import Metric

        missing = []
        for stage, entries in new.items():
            for entry in entries:
                if entry.step is None:
                    continue
                for term, value in entry.terms.items():
                    name = _name(f"{stage}/{term}")
                    if entry.step not in self._has(name):
                        self._has(name)[entry.step] = value
                        missing.append(Metric(name, value, _milliseconds(entry.time), entry.step))
        return missing

    def _missing_scores(self, run: CellRun) -> list[Any]:
        from mlflow.entities import Metric

        missing = []
        for score, value in run.metrics.items():
            name = _name(score)
            if not _same(self._has(name).get(0), value):
                self._has(name)[0] = value
                missing.append(Metric(name, float(value), self._ended(), 0))
        return missing

    def _log(self, metrics: Sequence[Any], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        for batch in _batches([Param(*item) for item in params.items()], PARAMS_PER_BATCH):
            self._client.log_batch(self._run_id, params=batch)
        for batch in _batches([RunTag(*item) for item in tags.items()], PARAMS_PER_BATCH):
            self._client.log_batch(self._run_id, tags=batch)
        for batch in _batches(metrics, METRICS_PER_BATCH):
            self._client.log_batch(self._run_id, metrics=batch)
        self._params |= params.keys()
        self._tags |= tags

    def _send_artifacts(self, run: CellRun) -> int:
        """Send the files that the run lacks or has with another size."""
        sent = 0
        for folder, paths in run.artifacts.items():
            if folder not in self._sizes:
                listed = self._client.list_artifacts(self._run_id, folder or None)
                self._sizes[folder] = {Path(file.path).name: file.file_size for file in listed}
            for path in paths:
                size = path.stat().st_size
                if self._sizes[folder].get(path.name) != size:
                    self._client.log_artifact(self._run_id, str(path), folder or None)
                    self._sizes[folder][path.name] = size
                    sent += 1
        return sent

    def _ended(self) -> int:
        """Return the time of the last log line in milliseconds since 1970, so that a later copy sends the same."""
        ends = [tail.last for tail in self._tails.values() if tail.last is not None]
        return _milliseconds(max(ends)) if ends else self._state[1] or _milliseconds(time.time())

    def _set_status(self, run: CellRun) -> None:
        if run.status == "RUNNING":
            if self._state[0] != "RUNNING":
                self._client.update_run(self._run_id, status="RUNNING")
            self._state = ("RUNNING", self._state[1])
        elif self._state != (run.status, self._ended()):
            state = (run.status, self._ended())
            self._client.set_terminated(self._run_id, *state)
            self._state = state


def _run(client: Any, experiment_id: str, run: CellRun, start_milliseconds: int) -> Any:
    """Return the cell's one run, creating it if there is none.

    Processes that find none at the same time create several. Each searches again after creating, keeps the same run as
    the others do and deletes the rest, so the one that searches last leaves one run, which its copy completes.
    """
    tags = {CELL_TAG: run.key}
    condition = f"tags.`{CELL_TAG}` = '{run.key}'"
    runs = client.search_runs([experiment_id], condition)
    if not runs:
        client.create_run(experiment_id, start_time=start_milliseconds, tags=tags, run_name=_cut(run.name, NAME_LENGTH))
        runs = client.search_runs([experiment_id], condition)
    kept, *others = sorted(runs, key=lambda listed: (listed.info.start_time, listed.info.run_id))
    for other in others:
        client.delete_run(other.info.run_id)
    return kept


def _worth_another_try(error: Exception) -> bool:
    """Return whether MLflow answered and refused, for example because another process deleted this surplus run.

    Transport errors and failures of the server have the code INTERNAL_ERROR, and are not worth it.
    """
    return getattr(error, "error_code", "INTERNAL_ERROR") != "INTERNAL_ERROR"


def _name(name: str) -> str:
    """Return a name that MLflow allows; a changed name ends in a digest, so that no two names become the same."""
    parts = re.sub(r"[^\w.\-/ ]", "_", name, flags=re.ASCII).split("/")
    allowed = "/".join(part for part in parts if part.strip("."))
    if allowed == name and len(name) <= NAME_LENGTH:
        return name
    return f"{allowed[: NAME_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _cut(value: str, length: int) -> str:
    return value if len(value) <= length else value[: length - 1] + "…"


def _same(stored: float | None, value: float) -> bool:
    """Return whether MLflow has stored this value; its databases store infinity as the largest finite number."""
    if stored is None or math.isnan(stored) or math.isnan(value):
        return stored is not None and math.isnan(stored) and math.isnan(value)
    largest = sys.float_info.max
    return stored in (value, max(-largest, min(largest, value)))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# ---------------------------------------------------------------------------------- copies while training goes on


class LiveCopy:
    """Copies a cell to MLflow from a thread while the block runs, and once more when it ends.

    The thread calls `describe` before each copy. No failure or hang of the thread reaches the block: `tell` receives
    one line about a failure, and another only after MLflow has answered in between; the attempts after a failure come
    at growing intervals. Leaving the block waits at most `exit_seconds` for the last copy.
    """

    def __init__(
        self,
        describe: Callable[[], CellRun],
        uri: str,
        *,
        every_seconds: float = 5.0,
        exit_seconds: float = 10.0,
        tell: Callable[[str], None] = print,
    ) -> None:
        self._describe, self._uri, self._tell = describe, uri, tell
        self._every_seconds, self._exit_seconds = every_seconds, exit_seconds
        self._leaving = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="copy to MLflow")
        self._environment = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._environment.enter_context(server.settings(LIVE_TIMEOUT_SECONDS))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join(self._exit_seconds)
        if not self._thread.is_alive():
            self._environment.close()
        else:  # the thread is abandoned, but may still be sending: it keeps the settings that make MLflow silent
            self._failed(server.failure(self._uri, f"did not finish within {self._exit_seconds:g} s"))

    def _work(self) -> None:
        copier = _Copier(self._uri)
        wait = self._every_seconds
        while True:
            last = self._leaving.is_set()
            try:
                copier.copy(self._describe())
                wait, self._failing = self._every_seconds, False
            except server.TrackError as error:
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
                self._failed(str(error))
            except Exception as error:
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
                reason = f"did not get a copy of this cell, which could not be read: {error!r}"
                self._failed(server.failure(self._uri, reason))
            if last:
                return
            self._leaving.wait(wait)

    def _failed(self, line: str) -> None:
        if not self._failing:
            self._failing = True
            self._tell(line)
