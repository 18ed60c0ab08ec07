"""The questions of the study, one file each: its rows, and what was published for them.

A file is an experiment: its docstring is the question, its ROWS are the settings compared. Every row is computed for
every seed. Nothing else is to be done to add one.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell, require
from dae_ssl.experiments.row import Row

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Experiment:
    """A question, and the rows that answer it."""

    name: str
    question: str
    rows: tuple[Row, ...]

    def cells(self, seeds: Sequence[int] = SEEDS, changes: Mapping[str, Any] | None = None) -> dict[Row, list[Cell]]:
        """Return each row's cells, one for each seed, with settings changed alike for all, as to try it out small.

        Raises ConfigError for a change that a cell cannot take.
        """
        changed = {row: merged(row.settings, changes or {}) for row in self.rows}
        return {row: [config.cell(settings, seed=seed) for seed in seeds] for row, settings in changed.items()}


def names() -> list[str]:
    """Return the names of all experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "row")


def load(name: str) -> Experiment:
    """Return an experiment by its name. Raises ConfigError for a name that is none."""
    require(name in names(), "experiment", name, ", ".join(names()))
    module = importlib.import_module(f"{__name__}.{name}")
    return Experiment(name, str(module.__doc__).strip(), tuple(module.ROWS))


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with others in their place, leaf by leaf."""
    found = dict(settings)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if nested else value
    return found
