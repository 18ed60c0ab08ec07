"""What the files of this folder are written with: rows, what is drawn of them, and what is claimed of them.

An experiment is a module of this folder. Its docstring is the question. It has
    ROWS, or rows(base, validation)     what is compared
    EXHIBITS                            figures and tables; without, a table of accuracies
    CLAIMS, or claims(base)             what the study says of the rows, in words
    BASE                                settings of all its cells, where they are not the study's (of other images also
                                        data.validation_images and views, as in `tour`)
    SEEDS                               (0,) without
or PARTS, the names of others that it is made of, and FIRST, those that are computed before the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]
"""Nested settings of a cell, without its seed; what is left out is the base's."""
Validation = Callable[[Settings], Mapping[int, float]]
"""The validation accuracy of the cells with these settings by seed, shares; of the seeds that are done."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table or point of a curve: a setting that an experiment compares with others."""

    label: str
    settings: Settings = field(default_factory=dict)
    """What makes it the row it is; nothing else overrides these."""
    published: float | None = None
    """CIFAR-10 test accuracy of the probe in percent, as the study has it."""
    at: Mapping[str, float | str] = field(default_factory=dict)
    """Where it stands in figures: its values along their axes, its line, its panel."""
    among: tuple["Row", ...] = ()
    """If given, the row is the one of these that has the best validation accuracy, whatever its test accuracy."""


# ---------------------------------------------------------------------------------- scores by name


@dataclass(frozen=True)
class Measure:
    """How a score is told."""

    title: str
    unit: str = ""
    percent: bool = False
    """Kept as a share, shown in percent."""
    digits: int = 2

    @property
    def axis(self) -> str:
        """Its title with its unit, as beside an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def told(self, value: float) -> str:
        """Return a value, scaled as it is shown."""
        return f"{value:.{self.digits}f}"


def _accuracy(title: str) -> Measure:
    return Measure(title, "%", percent=True)


SCORES: Mapping[str, Measure] = {
    "test_accuracy": _accuracy("test accuracy, top-1"),
    "logistic_test_accuracy": _accuracy("test accuracy, L-BFGS"),
    "validation_accuracy": _accuracy("validation accuracy, top-1"),
    "kmeans_matched_accuracy": _accuracy("k-means, matched accuracy"),
    "kmeans_inertia": Measure("k-means, inertia per point", digits=3),
    "kmeans_nmi": Measure("k-means, NMI", digits=4),
    "kmeans_ari": Measure("k-means, ARI", digits=4),
    "kmeans_standardised_inertia_per_feature": Measure("standardised: inertia per point and feature", digits=4),
    "kmeans_standardised_nmi": Measure("standardised: NMI", digits=4),
    "kmeans_standardised_ari": Measure("standardised: ARI", digits=4),
    "kmeans_standardised_matched_accuracy": _accuracy("standardised: matched accuracy"),
    "final_reconstruction": Measure("reconstruction term", digits=5),
    "final_embedding": Measure("embedding term, unweighed", digits=5),
    "probe_epochs_to_converge": Measure("probe epochs to 99 % of final accuracy", digits=1),
} | {
    f"reconstruction_{name}_{to}": Measure(f"{title}, {words}", unit, digits=digits)
    for to, words in {
        "to_view": "to the view", "to_clean": "to the clean image", "view_to_clean": "view to clean image",
    }.items()
    for name, (title, unit, digits) in {
        "psnr": ("PSNR", "dB", 2), "ssim": ("SSIM", "", 3), "offset": ("offset", "pixels", 2),
        "sharpness": ("sharpness", "", 3),
    }.items()
}  # fmt: skip
"""What tables, drawings and claims can name, and how it is told; `report/measures.py` finds it in a cell."""


# ---------------------------------------------------------------------------------- what is shown


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure or table of an experiment's rows."""

    name: str
    """Of its files."""
    title: str
    note: str = ""

    def named_scores(self) -> tuple[str, ...]:
        """Return the scores that it shows, by name."""
        return tuple(getattr(self, "scores", ())) or tuple(
            getattr(self, name) for name in ("score", "colour") if hasattr(self, name)
        )

    def named_places(self) -> tuple[str, ...]:
        """Return what rows must have in `at` for it."""
        own = (getattr(self, name, None) for name in ("x", "lines", "panels", "of", "within"))
        return tuple(name for name in own if name is not None)


@dataclass(frozen=True, kw_only=True)
class Numbers(Exhibit):
    """A table: a line for each row and the floors, and the scores named."""

    scores: Sequence[str] = ("test_accuracy", "logistic_test_accuracy", "kmeans_matched_accuracy")


@dataclass(frozen=True, kw_only=True)
class Curves(Exhibit):
    """A figure against a number, a line for each value of `lines`, a panel for each of `panels`.

    A row that has no place on the x axis is drawn as a dotted line across.
    """

    x: str
    x_label: str
    score: str
    lines: str
    panels: str | None = None
    logarithmic: bool = False
    relative_to: float | None = None
    """If given, what is drawn is the change relative to the line's own value there."""


@dataclass(frozen=True, kw_only=True)
class ProbeCurves(Exhibit):
    """Validation accuracy by probe epoch, a curve for each row and floor."""


@dataclass(frozen=True, kw_only=True)
class Plane(Exhibit):
    """Each row as a point with its label's number, one score against another, coloured by a third."""

    x: str
    y: str
    colour: str
    lines: str
    panels: str | None = None

    def named_scores(self) -> tuple[str, ...]:
        """Return the three."""
        return self.x, self.y, self.colour

    def named_places(self) -> tuple[str, ...]:
        """Return lines and panels."""
        return (self.lines,) if self.panels is None else (self.lines, self.panels)


@dataclass(frozen=True, kw_only=True)
class Pictures(Exhibit):
    """Test images, their views, and what each row's networks make of these."""


@dataclass(frozen=True, kw_only=True)
class Strengths(Exhibit):
    """Views of test images at several strengths of the jitter."""


@dataclass(frozen=True, kw_only=True)
class Effects(Exhibit):
    """How much each change moves test accuracy, from the row with the same `within` whose `of` is `start`."""

    of: str
    within: str
    start: str


# ---------------------------------------------------------------------------------- what is claimed


FLOORS = {"random": "random encoder", "pixels": "raw pixels"}
"""The labels of the floors, by method."""


BEST = "the best"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something said in words, as a number that lies between two others if it is true.

    The number is the sum of the rows' scores times `weights`, by label; floors are "random encoder" and "raw pixels",
    BEST is the best of some rows. Or it is what `value` makes of each seed's scores. Accuracies are in percent.
    """

    words: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    best: Sequence[str] = ()
    """Labels of the rows of which BEST is one. Of accuracies on test it is the one that is best on validation; of other
    scores, for each seed, the one whose score is highest for the other seeds: a peak looked for where it is measured
    would be found in noise."""
    value: Callable[[Mapping[str, float]], float] | None = None
    rows: Sequence[str] = ()
    """Labels that `value` needs."""
    score: str = "test_accuracy"
    above: float = 0.0
    below: float = float("inf")
    published: float | None = None

    def labels(self) -> tuple[str, ...]:
        """Return the labels of the rows that it speaks of."""
        return (*(label for label in self.weights if label != BEST), *self.best, *self.rows)


def beats(one: str, other: str, words: str, source: str, **more: Any) -> Claim:
    """Return the claim that one row's score is above another's."""
    return Claim(words=words, source=source, weights={one: 1.0, other: -1.0}, **more)


# ---------------------------------------------------------------------------------- grids that grow


def extended(
    grid: Sequence[float], accuracies: Callable[[float], Mapping[int, float]], *, decades: int = 2
) -> list[float]:
    """Return a grid of weights, a decade apart, that goes on past its edge while the best of it lies there.

    By at most so many decades at either end. Weights are compared over the seeds that all of them have, and the grid
    does not go on before there is one. grid: ascending; accuracies: of a weight, by seed.
    """
    found = list(grid)
    while True:
        known = {weight: accuracies(weight) for weight in found}
        seeds = set.intersection(*(set(by_seed) for by_seed in known.values()))
        if not seeds:
            return found
        best = max(known, key=lambda weight: sum(known[weight][seed] for seed in seeds))
        if best == found[-1] and best < grid[-1] * 10 ** (decades - 0.5):
            found.append(_power(best, 1))
        elif best == found[0] and best > grid[0] / 10 ** (decades - 0.5):
            found.insert(0, _power(best, -1))
        else:
            return found


def _power(weight: float, decades: int) -> float:
    return float(f"{weight * 10.0**decades:.6g}")  # 1e-05, not 1.0000000000000001e-05, which is another key
