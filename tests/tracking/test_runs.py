"""A cell's MLflow run: its name, short enough for a table and as it was in every run already there; and its state."""

from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.compute.log import ASKED_TO, Log
from dae_ssl.store import Store
from dae_ssl.tracking.runs import cell_run

NCS = {"name": "dae", "embedding": "ncs", "alpha": 10.0}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "dae"}, "dae seed=0"),
        ({"method": "random", "seed": 3}, "random seed=3"),
        ({"method": NCS, "seed": 1}, "dae ncs α=10 seed=1"),
        ({"method": NCS | {"alpha": 0.0001}}, "dae ncs α=0.0001 seed=0"),
        ({"method": {"name": "ae", "embedding": "l2", "alpha": 1}}, "ae l2 α=1 seed=0"),
        ({"method": {"name": "simclr", "contrast": "published_contrast"}}, "simclr contrast=published_contrast seed=0"),
        ({"method": NCS, "views": {"jitter": 1.0}}, "dae ncs α=10 seed=0 views.jitter=1.0"),
        ({"method": NCS, "networks": {"embedding_size": 256}}, "dae ncs α=10 seed=0 networks.embedding_size=256"),
        (
            {"method": "simclr", "optimisation": {"batch_size": 32, "learning_rate": 6.25e-06}},
            "simclr seed=0 optimisation.batch_size=32 optimisation.learning_rate=6.25e-06",
        ),
        ({"method": "simclr", "features": {"epoch": 50}}, "simclr seed=0 features.epoch=50"),
        ({"method": "dae", "optimisation": {"checkpoints": [1, 2]}}, "dae seed=0 optimisation.checkpoints=[1, 2]"),
        ({"method": NCS, "precision": "bf16"}, "dae ncs α=10 seed=0 precision=bf16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_run_is_named_by_what_is_not_the_studys(settings: dict[str, Any], name: str, tmp_path: Path) -> None:
    assert cell_run(config.cell(settings), Store(tmp_path)).name == name


@pytest.mark.parametrize(
    ("error", "state"), [(None, "RUNNING"), *((error, "KILLED") for error in ASKED_TO), ("Diverged", "FAILED")]
)
def test_run_of_a_cell_that_is_not_done_failed_only_where_a_stage_did(
    error: str | None, state: str, tmp_path: Path
) -> None:
    cell, store = config.cell(method="dae"), Store(tmp_path)
    features = cells.nodes(cell, store)["features"]
    features.create()
    with Log(features.log) as log:
        log.event("stopped", error="Diverged", reason="of an attempt before")
        started = {"commit": None, "image": None, "device": "cpu", "host": "h", "ranks": 1, "slurm": {}, "versions": {}}
        log.event("started", **started)
        if error is not None:
            log.event("stopped", error=error, reason="x")
    assert cell_run(cell, store).status == state
