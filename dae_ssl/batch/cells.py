"""A whole cell: computing its stages in order, the floors beside it, and what is told of it."""

import json
import signal
from dataclasses import replace
from typing import Any

from dae_ssl import config, store
from dae_ssl.batch.interrupt import Stopped, stop_requests
from dae_ssl.batch.log import Entry, read
from dae_ssl.batch.stages import Place, compute, follow
from dae_ssl.batch.track import CellRun
from dae_ssl.config import Cell, ConfigError
from dae_ssl.distributed import World
from dae_ssl.lock import Locked
from dae_ssl.store import Node, Store, write_json
from dae_ssl.training.pretrain import Interrupted

MLFLOW_EXPERIMENT = "dae_ssl"


def floors(cell: Cell) -> dict[str, Cell]:
    """Return the cells that tell what a method's accuracy is worth, evaluated exactly as the cell itself is."""
    names = {"random encoder": "random", "raw pixels": "pixels"}
    features = replace(cell.features, epoch=None)
    return {
        words: replace(cell, method=config.method(name, {}), features=features)
        for words, name in names.items()
        if cell.method.name != name
    }


def describe(cell: Cell, place: Store) -> Node:
    """Write down what the cell is, so that it can be found, copied and reported later; return its folder."""
    folder = place.cell(config.cell_key(cell))
    if not folder.product(store.CELL).exists():
        folder.create()
        write_json(folder.product(store.CELL), {"settings": config.settings(cell), "nodes": config.keys(cell)})
    return folder


def described(folder: Node) -> Cell:
    """Return the cell that a folder describes. Raises ConfigError when this version knows no such cell."""
    try:
        return config.cell(json.loads(folder.product(store.CELL).read_text())["settings"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder.path} does not describe a cell that this version knows: {error}") from error


def begun(cell: Cell, place: Store) -> bool:
    """Tell whether anything of a cell was computed."""
    return any(place.node(stage, key).path.exists() for stage, key in config.keys(cell).items())


def pretrain(cell: Cell, place: Place) -> None:
    """Pretrain on this rank, together with the others of its world.

    Raises Stopped when a rank was asked to stop, once the state is saved; also where the request came too late for the
    loop to see.
    """
    with stop_requests() as request:
        asked = replace(place, stop=request)
        try:
            compute(cell, "pretrain", asked) if place.world.first else follow(cell, asked)
        except (Interrupted, Locked) as error:
            if isinstance(error, Locked) and not request():
                raise
            # Another rank may be the one that was asked.
            raise Stopped(request.number or signal.SIGTERM, str(error)) from None
        if request.number is not None:
            raise Stopped(request.number, "stopped after pretraining")


def evaluate(cell: Cell, place: Place) -> None:
    """Compute the stages after pretraining, on one process; what is done already is not computed again."""
    alone = replace(place, world=World(0, 1, place.world.device))
    for stage in cell.stages():
        if stage != "pretrain" or not cell.method.trains:
            compute(cell, stage, alone)


def records(cell: Cell, place: Store) -> dict[str, dict[str, Any]]:
    """Return the commit records of the stages that are done."""
    found = {stage: place.node(stage, config.key(cell, stage)).record() for stage in cell.stages()}
    return {stage: record for stage, record in found.items() if record is not None}


def figures(cell: Cell, place: Store) -> dict[str, float]:
    """Return the final figures of the stages that are done, accuracies as shares between 0 and 1."""
    merged: dict[str, float] = {}
    for record in records(cell, place).values():
        merged |= {name: float(value) for name, value in record.get("figures", {}).items()}
    return merged


def validation_accuracy(cell: Cell, place: Store) -> float | None:
    """Return the probe's accuracy on validation images, a share; None until it is done."""
    record = place.node("probe", config.key(cell, "probe")).record()
    return None if record is None else float(record["figures"]["validation_accuracy"])


def cell_run(cell: Cell, place: Store, experiment: str = MLFLOW_EXPERIMENT) -> CellRun:
    """Return the cell as one MLflow run: settings, tags, curves, figures and files, as far as they are there."""
    settings = config.flat(config.settings(cell))
    done, folder = records(cell, place), place.cell(config.cell_key(cell))
    nodes = {stage: place.node(stage, config.key(cell, stage)) for stage in cell.stages()}
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
        metrics=figures(cell, place),
        artifacts={"": sorted(p for p in folder.path.glob("*") if p.suffix in (".html", ".png"))},
        status="FINISHED" if len(done) == len(nodes) else _unfinished(events),
    )


def _run_name(cell: Cell) -> str:
    """Return a cell's title with what tells most cells apart in the twenty letters that MLflow's table shows."""
    return config.title(cell).replace("embedding=", "").replace("alpha=", "α=").replace(".0 seed", " seed")


def _unfinished(events: dict[str, list[Entry]]) -> str:
    """Return MLflow's word for a cell that is not done, from the last event of its logs."""
    happened = [entry for entries in events.values() for entry in entries]
    last = max(happened, key=lambda entry: entry.time, default=None)
    if last is None or last.event != "stopped":
        return "RUNNING"
    asked_to = ("Interrupted", "KeyboardInterrupt", "SystemExit")
    return "KILLED" if last.fields["error"] in asked_to else "FAILED"
