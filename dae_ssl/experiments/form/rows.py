"""The rows that are compared, their floors, and grids that are extended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dae_ssl.experiments.form.settings import Settings
from dae_ssl.experiments.published import Published

Validation = Callable[[Settings], Mapping[int, float]]
"""Gives the validation accuracies, as shares, of the cells with these settings, for the seeds that are done."""

FLOORS = {"random": "random encoder", "pixels": "raw pixels"}
"""The labels of the floors, by method; claims name a floor by its method."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table or point of a curve: a setting that an experiment compares with others."""

    label: str
    """The name for readers; the program never looks a row up by it."""
    settings: Settings = field(default_factory=dict)
    """The settings that distinguish the row; no change overrides them."""
    published: Published | None = None
    """The published CIFAR-10 test accuracy of the probe, in percent."""
    at: Mapping[str, float | str] = field(default_factory=dict)
    """Its position in figures: its values on their axes, its line, its panel."""
    among: tuple["Row", ...] = ()
    """If given, the row is the one of these with the best validation accuracy, whatever its test accuracy."""
    key: str = ""
    """The name by which claims refer to the row, unique in the experiment; by default the label."""
    mark: str = ""
    """A short name for its point or picture in figures; by default the label."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.label)


def extended(
    grid: Sequence[float], accuracies: Callable[[float], Mapping[int, float]], *, decades: int = 2
) -> list[float]:
    """Return a grid of weights a decade apart, extended while its best weight is at an edge.

    The grid is extended by at most `decades` at either end. Weights are compared over the seeds that all of them have;
    without such a seed the grid is not extended. grid: ascending; accuracies: gives those of a weight, by seed.
    """
    weights = list(grid)
    while True:
        known = {weight: accuracies(weight) for weight in weights}
        seeds = set.intersection(*(set(by_seed) for by_seed in known.values()))
        if not seeds:
            return weights
        best = max(known, key=lambda weight: sum(known[weight][seed] for seed in seeds))
        if best == weights[-1] and best < grid[-1] * 10 ** (decades - 0.5):
            weights.append(_power(best, 1))
        elif best == weights[0] and best > grid[0] / 10 ** (decades - 0.5):
            weights.insert(0, _power(best, -1))
        else:
            return weights


def _power(weight: float, decades: int) -> float:
    return float(f"{weight * 10.0**decades:.6g}")  # 1e-05, not 1.0000000000000001e-05, which is another key
