"""A cell, as far as it is computed -> its MLflow run."""

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.compute.cells import MLFLOW_EXPERIMENT
from dae_ssl.compute.log import ASKED_TO, Entry, read
from dae_ssl.compute.processes import Copying
from dae_ssl.config import Cell
from dae_ssl.store import Store
from dae_ssl.tracking.copying import CellRun, LiveCopy

SHORT = {"embedding": "", "alpha": "α="}
"""The text before the value of a setting in the name of a run, for settings that do not use `NAME=`."""


def cell_run(cell: Cell, store: Store, experiment: str = MLFLOW_EXPERIMENT) -> CellRun:
    """Return the cell as one MLflow run: its settings, tags, curves, scores and files, as far as they exist."""
    settings = config.flat(config.settings(cell))
    done, folder = cells.committed_records(cell, store), store.cell(config.cell_key(cell))
    nodes = cells.nodes(cell, store)
    tags: dict[str, str] = {f"{stage}.key": node.key for stage, node in nodes.items()}
    tags |= {f"{stage}.seconds": f"{record['seconds']:.1f}" for stage, record in done.items()}
    events = {stage: [entry for entry in read(node.log) if entry.event] for stage, node in nodes.items()}
    for began in (entry for stage in reversed(nodes) for entry in events[stage] if entry.event == "started"):
        source = began.fields
        tags |= {name: str(source[name]) for name in ("commit", "image", "device", "host", "ranks") if source[name]}
        tags |= {"mlflow.source.git.commit": source["commit"]} if source["commit"] else {}
        tags |= source["slurm"]
        tags |= {f"version.{name}": version for name, version in source["versions"].items()}
    return CellRun(
        experiment=experiment,
        key=folder.key,
        name=_run_name(cell),
        params={name.removesuffix(".name"): str(value) for name, value in settings.items()},
        tags=tags,
        logs={stage: node.log for stage, node in nodes.items()},
        metrics=cells.scores(cell, store),
        artifacts={"": sorted(p for p in folder.path.glob("*") if p.suffix in (".html", ".png"))},
        status="FINISHED" if len(done) == len(nodes) else _unfinished(events),
    )


def _run_name(cell: Cell) -> str:
    """Return a name that distinguishes a cell, such as "dae l2 α=1 seed=0"; MLflow's table shows 20 letters of it.

    It has the method, its settings that differ from the study's, the seed, then all other settings that differ.
    """
    of_method, others = config.unusual(cell)
    settings = (f"{SHORT.get(name, f'{name}=')}{_short(value)}" for name, value in of_method.items())
    return " ".join([cell.method.name, *settings, f"seed={cell.seed}", *(f"{name}={others[name]}" for name in others)])


def _short(value: object) -> str:
    """Return a setting as people write it, such as 1 for 1.0."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _unfinished(events: dict[str, list[Entry]]) -> str:
    """Return MLflow's status for an unfinished cell, from the last event in its logs."""
    happened = [entry for entries in events.values() for entry in entries]
    last = max(happened, key=lambda entry: entry.time, default=None)
    if last is None or last.event != "stopped":
        return "RUNNING"
    return "KILLED" if last.fields["error"] in ASKED_TO else "FAILED"


def live(cell: Cell, store: Store, uri: str, experiment: str, tell: Callable[[str], None]) -> LiveCopy:
    """Return a context manager that copies a cell to MLflow while its block computes it."""
    return LiveCopy(lambda: cell_run(cell, store, experiment), uri, tell=tell)


def copying(store: Store, experiment: str) -> Copying:
    """Return what copies a cell, while it is computed, to the server in MLFLOW_TRACKING_URI, if that is set."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")

    def copied(cell: Cell, tell: Callable[[str], None]) -> AbstractContextManager[object]:
        return live(cell, store, uri, experiment, tell) if uri else contextlib.nullcontext()

    return copied
