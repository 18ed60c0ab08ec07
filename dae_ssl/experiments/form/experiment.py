"""A question with its rows, and the cells that answer it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dae_ssl import config
from dae_ssl.config import Cell, require
from dae_ssl.experiments.form.claims import BEST, Claim
from dae_ssl.experiments.form.exhibits import ACCURACIES, Exhibit
from dae_ssl.experiments.form.rows import FLOORS, Row, Validation
from dae_ssl.experiments.form.scores import SCORES
from dae_ssl.experiments.form.settings import Settings, another_study, merged

T = TypeVar("T")
RowsOf = Callable[[Cell, Validation], Iterable[Row]]
"""Makes rows of the base, a cell without a method, and of what validation knows."""
ClaimsOf = Callable[[Cell], Iterable[Claim]]
"""Makes claims of the base."""
AccuracyOf = Callable[[Cell], float | None]
"""Tells a cell's validation accuracy, a share; None until it is done."""


def nothing_known(_cell: Cell) -> None:
    """Return that a cell is not done."""


@dataclass(frozen=True)
class Section:
    """An experiment with its cells: for a list of seeds, some changes, and as far as validation has chosen."""

    name: str
    question: str
    base: Cell
    """What its rows are changes of; the method stands for none."""
    shown: tuple[Row, ...]
    """Its rows, in order."""
    cells: Mapping[Row, tuple[Cell, ...]]
    """The cells of each row, one for each seed; also of rows among which one is chosen, not of the one that is."""
    exhibits: tuple[Exhibit, ...]
    claims: tuple[Claim, ...]
    reduced: bool
    """Whether changes have made it another study, whose numbers do not compare with the published ones."""

    def every(self) -> list[Cell]:
        """Return all of its cells, each once."""
        return distinct(cell for of_row in self.cells.values() for cell in of_row)


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A question, or several: the value EXPERIMENT that each file of `experiments` ends in."""

    question: str
    """What is asked, in a line or more: the file's docstring."""
    rows: Sequence[Row] | RowsOf = ()
    """What is compared."""
    exhibits: Sequence[Exhibit] = (ACCURACIES,)
    """What is drawn of the rows."""
    claims: Sequence[Claim] | ClaimsOf = ()
    """What the study says of the rows."""
    base: Settings = field(default_factory=dict)
    """Settings of all cells, where they are not the study's; of other images also data.validation_images and views."""
    seeds: Sequence[int] = (0,)
    """The seeds it is computed for, if nobody says otherwise."""
    parts: Sequence["Experiment"] = ()
    """The experiments that it is made of, instead of rows of its own."""
    first: Sequence[str] = ()
    """The names of the parts that are computed before the rest, in this order."""
    name: str = ""
    """Its file's, which `experiments.load` gives it."""

    def sections(
        self, seeds: Sequence[int] = (), changes: Settings | None = None, validation: AccuracyOf = nothing_known
    ) -> tuple[Section, ...]:
        """Return its parts, or itself, with their cells; settings changed alike for all, as to try it out small.

        Where rows depend on validation accuracies, `validation` tells what is known of them. Raises ConfigError for a
        change that a cell cannot take, and for a mistake in an experiment's file.
        """
        return tuple(_section(part, seeds or self.seeds, changes or {}, validation) for part in self.parts or (self,))

    def in_order(self, sections: Iterable[Section]) -> list[Cell]:
        """Return all cells, each once, in the order in which they are worth most: seed by seed, what is first first.

        Cells that only stand for choice among them come after those that are shown.
        """
        first = {name: place for place, name in enumerate(self.first)}
        ranked: list[tuple[tuple[int, int, int], Cell]] = []
        for section in sections:
            place = first.get(section.name, len(first))
            for row, of_row in section.cells.items():
                rank = (place, 0) if row in section.shown else (len(first), 1)
                ranked += [((turn, *rank), cell) for turn, cell in enumerate(of_row)]
        return distinct(cell for _, cell in sorted(ranked, key=lambda item: item[0]))


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Return cells, each once, in their order."""
    once: dict[str, Cell] = {}
    for cell in cells:
        once.setdefault(config.cell_key(cell), cell)
    return list(once.values())


def _section(experiment: Experiment, seeds: Sequence[int], changes: Settings, validation: AccuracyOf) -> Section:
    common = merged(experiment.base, changes)
    base = config.cell(common, method="random")

    def cells(settings: Settings) -> tuple[Cell, ...]:
        whole = merged(common, settings)
        return tuple(config.cell(whole, seed=seed) for seed in seeds)

    def by_seed(settings: Settings) -> dict[int, float]:
        known = {cell.seed: validation(cell) for cell in cells(settings)}
        return {seed: accuracy for seed, accuracy in known.items() if accuracy is not None}

    shown = _listed(experiment, "rows", experiment.rows, Row, base, by_seed)
    computed = [row for row in shown if not row.among] + [candidate for row in shown for candidate in row.among]
    section = Section(
        experiment.name, experiment.question, base, shown, {row: cells(row.settings) for row in computed},
        _listed(experiment, "exhibits", experiment.exhibits, Exhibit),
        _listed(experiment, "claims", experiment.claims, Claim, base),
        another_study(base, config.cell(experiment.base, method="random")),
    )  # fmt: skip
    _check(section)
    return section


def _listed(
    experiment: Experiment, name: str, stated: Sequence[T] | Callable[..., Iterable[T]], kind: type[T], *of: Any
) -> tuple[T, ...]:
    """Return what an experiment states in a field, or makes of `of` there. Raises ConfigError for what is no `kind`."""
    where, wanted = f"experiment {experiment.name}: {name}", f"a list of {kind.__name__}, or what makes one"
    listed = stated if isinstance(stated, Sequence) or not callable(stated) else stated(*of)
    require(isinstance(listed, Iterable), where, listed, wanted)
    found = tuple(listed)
    for value in found:
        require(isinstance(value, kind), where, value, wanted)
    return found


def _check(section: Section) -> None:
    """Raise ConfigError for a mistake in an experiment's file, which would otherwise show as a gap in its report."""
    where = f"experiment {section.name}"
    require(bool(section.question), f"{where}: docstring", None, "the question that it asks")
    require(bool(section.shown), f"{where}: rows", [], "at least one row")
    _differ(f"{where}: label of a row", [row.label for row in section.shown])
    keys = [row.key for row in {**dict.fromkeys(section.shown), **section.cells}]
    _differ(f"{where}: key of a row", [*keys, *FLOORS, BEST])
    _differ(f"{where}: name of an exhibit", [exhibit.name for exhibit in section.exhibits])
    places = sorted({place for row in section.shown for place in row.at})
    for exhibit in section.exhibits:
        for place in exhibit.named_places():
            require(place in places, f"{where}: exhibit {exhibit.name}", place, f"what rows have in `at`: {places}")
    scores = [score for exhibit in section.exhibits for score in exhibit.named_scores()]
    for score in [*scores, *(claim.score for claim in section.claims)]:
        require(score in SCORES, f"{where}: score", score, ", ".join(SCORES))
    known = [row.key for row in section.shown] + [*FLOORS]
    for key in (key for claim in section.claims for key in claim.named_rows()):
        require(key in known, f"{where}: row of a claim", key, f"one of its keys: {'; '.join(known)}")


def _differ(what: str, values: Sequence[str]) -> None:
    for value in values:
        require(values.count(value) == 1, what, value, "one that nothing else has")
