"""A question with its rows, and the cells that answer it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, require
from dae_ssl.experiments.form.claims import BEST, Claim
from dae_ssl.experiments.form.exhibits import ACCURACIES, Exhibit
from dae_ssl.experiments.form.rows import FLOORS, Row, Validation
from dae_ssl.experiments.form.scores import SCORES
from dae_ssl.experiments.form.settings import Settings, another_study, merged

T = TypeVar("T")
RowsOf = Callable[[Cell, Validation], Iterable[Row]]
"""Makes rows, given the base, which is a cell without a method, and the known validation accuracies."""
ClaimsOf = Callable[[Cell], Iterable[Claim]]
"""Makes claims, given the base."""
AccuracyOf = Callable[[Cell], float | None]
"""Gives the validation accuracy of a cell, as a share; None until the cell is done."""


def nothing_known(_cell: Cell) -> None:
    """Return None, as the accuracy of a cell that is not done."""


@dataclass(frozen=True)
class Section:
    """An experiment with its cells for some seeds, with some changes, and with the choices of validation so far."""

    name: str
    question: str
    base: Cell
    """The cell that its rows change; its method is only a placeholder."""
    shown: tuple[Row, ...]
    """The rows of the experiment, in order."""
    cells: Mapping[Row, tuple[Cell, ...]]
    """The cells of each computed row, one for each seed. A row that is chosen among others has no cells of its own,
    but each of the others has."""
    exhibits: tuple[Exhibit, ...]
    claims: tuple[Claim, ...]
    reduced: bool
    """Whether the changes make it another study, whose numbers are not comparable with the published ones."""

    def every(self) -> list[Cell]:
        """Return all cells of the section, each once."""
        return distinct(cell for of_row in self.cells.values() for cell in of_row)


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A question, or several: the value EXPERIMENT at the end of each file of `experiments`."""

    question: str
    """The question, in one line or more, which is the docstring of the file."""
    rows: Sequence[Row] | RowsOf = ()
    """The settings that are compared."""
    exhibits: Sequence[Exhibit] = (ACCURACIES,)
    """The figures and tables that show the rows."""
    claims: Sequence[Claim] | ClaimsOf = ()
    """The statements of the study on the rows."""
    base: Settings = field(default_factory=dict)
    """The settings of all cells that differ from the study's. Other images also need data.validation_images and
    views."""
    seeds: Sequence[int] = (0,)
    """The seeds for which it is computed by default."""
    parts: Sequence["Experiment"] = ()
    """The experiments that it consists of, instead of rows."""
    first: Sequence[str] = ()
    """The names of the parts that are computed before the others, in this order."""
    name: str = ""
    """The name of its file, which `experiments.load` sets."""

    def sections(
        self, seeds: Sequence[int] = (), changes: Settings | None = None, validation: AccuracyOf = nothing_known
    ) -> tuple[Section, ...]:
        """Return its parts, or itself, with their cells; `changes` apply to all cells, for example to scale it down.

        `validation` gives the known validation accuracies, for rows that depend on them. Raises ConfigError for a
        change that is not possible for a cell, and for a mistake in an experiment's file.
        """
        return tuple(_section(part, seeds or self.seeds, changes or {}, validation) for part in self.parts or (self,))

    def in_order(self, sections: Iterable[Section]) -> list[Cell]:
        """Return all cells, each once, the most valuable ones first: seed by seed, and within a seed by `first`.

        Cells that are only candidates for a choice come after those of the rows that are shown.
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
    """Return the cells, each once, in their order."""
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
    """Return the list in a field of an experiment, or the list that a function there makes of `of`.

    Raises ConfigError if the list has a value that is not of the type `kind`.
    """
    where = f"experiment {experiment.name}: {name}"
    wanted = f"a list of {kind.__name__}, or a function that returns one"
    listed = stated if isinstance(stated, Sequence) or not callable(stated) else stated(*of)
    require(isinstance(listed, Iterable), where, listed, wanted)
    values = tuple(listed)
    for value in values:
        require(isinstance(value, kind), where, value, wanted)
    return values


def _check(section: Section) -> None:
    """Raise ConfigError for a mistake in an experiment's file, which would otherwise show as a gap in its report."""
    where = f"experiment {section.name}"
    if not section.question:
        raise ConfigError(f"{where} has no question: begin its file with a docstring that asks it")
    if not section.shown:
        raise ConfigError(f"{where} has no rows: give it at least one")
    _differ(f"{where}: label of a row", [row.label for row in section.shown])
    keys = [row.key for row in {**dict.fromkeys(section.shown), **section.cells}]
    _differ(f"{where}: key of a row", [*keys, *FLOORS, BEST])
    _differ(f"{where}: name of an exhibit", [exhibit.name for exhibit in section.exhibits])
    places = sorted({place for row in section.shown for place in row.at})
    for exhibit in section.exhibits:
        for place in exhibit.named_places():
            choices = f"a name that rows have in `at`, one of {places}"
            require(place in places, f"{where}: exhibit {exhibit.name}", place, choices)
    scores = [score for exhibit in section.exhibits for score in exhibit.named_scores()]
    for score in [*scores, *(claim.score for claim in section.claims)]:
        require(score in SCORES, f"{where}: score", score, ", ".join(SCORES))
    known = [row.key for row in section.shown] + [*FLOORS]
    for key in (key for claim in section.claims for key in claim.named_rows()):
        require(key in known, f"{where}: row of a claim", key, f"one of the rows' keys: {'; '.join(known)}")


def _differ(what: str, values: Sequence[str]) -> None:
    for value in values:
        require(values.count(value) == 1, what, value, "another one, since this one occurs twice")
