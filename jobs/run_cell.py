"""Compute one cell and the floors it must beat, from prepared images to a tracked result and its report page.

    python -m jobs.run_cell method=dae method.embedding=l2 method.alpha=1 seed=1
    torchrun --standalone --nproc-per-node=4 -m jobs.run_cell method=simclr precision=bf16
    python -m jobs.run_cell method=ae +variant=published_code
    python -m jobs.run_cell method=dae --cfg job        show every setting, compute nothing

Whatever is in the store already is not computed again; an interrupted cell goes on where it stopped.
"""

import sys
from dataclasses import replace
from pathlib import Path

import hydra
from omegaconf import DictConfig
from tqdm import tqdm

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, data, report
from dae_ssl.batch import cells, track
from dae_ssl.batch.interrupt import stop_requests
from dae_ssl.batch.stages import Place, compute
from dae_ssl.config import Cell, ConfigError
from dae_ssl.distributed import World, world
from dae_ssl.store import Store, StoreError
from dae_ssl.training.pretrain import Diverged, Interrupted
from jobs import settings

PLACE_KEYS = ("store", "device", "floors", "mlflow_experiment")


@hydra.main(version_base="1.3", config_path="conf", config_name="run_cell")
def main(given: DictConfig) -> None:
    """Run the cell of a composed configuration; exit 2 for bad settings, 128 + the signal when asked to stop."""
    try:
        cell = settings.cell(given)
        with world(given.device) as ranks:
            run(cell, Store(Path(given.store)), ranks, floors=given.floors, experiment=given.mlflow_experiment)
    except (ConfigError, StoreError, ValueError) as error:
        settings.fail(error, 2)
    except Diverged as error:
        settings.fail(error, 1)


def run(cell: Cell, store: Store, ranks: World, *, floors: bool, experiment: str) -> None:
    """Compute the cell; after pretraining the first rank goes on alone, with the floors and the report."""
    bar = _Progress()
    place = Place(store, ranks, tell=bar.tell if ranks.first else lambda _line: None, progress=bar)
    data.check_prepared(store, cell.data)
    uri = track.tracking_uri(store.root)
    if ranks.first:
        folder = cells.describe(cell, store)
        place.tell(f"cell {folder.key}: {config.title(cell)}")
    with track.LiveCopy(lambda: cells.cell_run(cell, store, experiment), uri) if ranks.first else _nothing():
        if cell.method.trains:
            with stop_requests() as request:
                try:
                    compute(cell, "pretrain", replace(place, stop=request))
                except Interrupted as stopped:
                    place.tell(str(stopped))
                    sys.exit(128 + (request.signal or 15))
        if not ranks.first:
            return
        cells.evaluate(cell, place)
        beside = cells.floors(cell) if floors else {}
        for floor in beside.values():
            cells.describe(floor, store)
            cells.evaluate(floor, place)
        page = report.write_cell_page(cell, store, beside)
    bar.close()
