"""What is compared: rows, the floors beside them, and grids that grow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dae_ssl.experiments.form.settings import Settings
from dae_ssl.experiments.published import Published

Validation = Callable[[Settings], Mapping[int, float]]
"""The validation accuracy of the cells with these settings by seed, shares; of the seeds that are done."""

FLOORS = {"random": "random encoder", "pixels": "raw pixels"}
"""The labels of the floors, by method, which is also the key that claims name a floor by."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table or point of a curve: a setting that an experiment compares with others."""

    label: str
    """What people read. Nothing is joined by it."""
    settings: Settings = field(default_factory=dict)
    """What makes it the row it is; nothing else overrides these."""
    published: Published | None = None
    """CIFAR-10 test accuracy of the probe in percent, as the study has it."""
    at: Mapping[str, float | str] = field(default_factory=dict)
    """Where it stands in figures: its values along their axes, its line, its panel."""
    among: tuple["Row", ...] = ()
    """If given, the row is the one of these that has the best validation accuracy, whatever its test accuracy."""
    key: str = ""
    """What claims name it by, unlike that of every other row of the experiment; the label without one."""
    mark: str = ""
    """What is written beside its point or picture where there is no room for the label; the label without one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.label)


def extended(
    grid: Sequence[float], accuracies: Callable[[float], Mapping[int, float]], *, decades: int = 2
) -> list[float]:
    """Return a grid of weights, a decade apart, that goes on past its edge while the best of it lies there.

    By at most so many decades at either end. Weights are compared over the seeds that all of them have, and the grid
    does not go on before there is one. grid: ascending; accuracies: of a weight, by seed.
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
