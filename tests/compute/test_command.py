"""The command of a page: read back, it is the same cell."""

import shlex
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute.command import run_again
from tests.commanded import cell_of

CELLS = [
    {"method": "random"},
    {"method": {"name": "dae", "embedding": "l2", "alpha": 1e-5}, "seed": 3},
    {"method": {"name": "simclr", "temperature": 0.1}, "precision": "bf16"},
    {"method": "ae", "views": {"frozen": True, "blur_kernel": 3}, "data": {"pretrain_images": 50, "evaluate": "1e3"}},
    {"method": "ae", "data": {"pretrain": "null", "evaluate": "7"}, "optimisation": {"checkpoints": []}},
    {"method": "single_view_ae", "probe": {"seeds": [1, 2], "learning_rates": [1e-3, 0.01], "labels_per_class": 10}},
    {"method": "dae", "optimisation": {"epochs": 20, "checkpoints": [5]}, "features": {"epoch": 5}},
]


@pytest.mark.parametrize("given", CELLS)
def test_command_reads_back_as_the_same_cell(given: dict[str, Any]) -> None:
    cell = config.cell(given)
    words = shlex.split(run_again(cell))
    assert words[:2] == ["dae-ssl", "run"]
    assert config.cell_key(cell_of(words[2:])) == config.cell_key(cell)
