"""The keys of every cell of every experiment are what they were: a refactoring keeps what was measured valid.

`golden_keys.json` holds them, at full length and as the reduced study. After rows were added or changed on purpose:

    python -m tests.experiments.test_keys
"""

import json
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, experiments
from dae_ssl.config import Cell
from jobs import scales

PATH = Path(__file__).with_name("golden_keys.json")
GOLDEN: dict[str, dict[str, dict[str, str]]] = json.loads(PATH.read_text()) if PATH.exists() else {}
"""By experiment and scale, part, and key of the row."""
DIGITS = 6
"""As many of a key's digits are kept; a change of any setting of a cell changes them, and by chance they agree once in
16 million cells."""


def keys(place: str) -> dict[str, dict[str, str]]:
    """Return the first digits of the keys of an experiment's cells by part and row, those of its own seeds together."""
    name, scale = place.split()
    changes = {} if scale == "full" else scales.chosen("scale", scale)
    return {
        section.name: {row.key: " ".join(map(cut, of_row)) for row, of_row in section.cells.items()}
        for section in experiments.load(name).sections((), changes)
    }


def cut(cell: Cell) -> str:
    return config.cell_key(cell)[:DIGITS]


@pytest.mark.parametrize("place", GOLDEN)
def test_every_cell_of_every_experiment_has_the_key_that_it_always_had(place: str) -> None:
    assert keys(place) == GOLDEN[place]


if __name__ == "__main__":
    places = [f"{name} {scale}" for name in experiments.names() for scale in ("full", "small")]
    PATH.write_text(json.dumps({place: keys(place) for place in places}, indent=0, ensure_ascii=False) + "\n")
