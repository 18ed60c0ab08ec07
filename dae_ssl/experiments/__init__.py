"""The questions of the study, one file each: its rows, what was published for them, and what is drawn of them.

    form                   what these files are written with
    study                  the whole study, in the order of the paper
    denoising              Figure 4: does it help to ask for the clean image?
    reconstructions        Figure 5: what do the autoencoders make of two views?
    embedding_loss         Figure 6: how much does each embedding loss weigh best?
    pareto                 Figure 2: what does drawing embeddings together cost in reconstruction?
    clustering             Figure 7: are the clusters tighter, and are they the classes?
    methods                Table 2: which embedding loss represents best?
    augmentation_strength  Figures 8 and 9: how strong may the jitter be?
    training_length        Figure 10: which method is ahead after how long?
    trained_to_the_end     Figure 10 again, every length a run of its own
    as_published_code      which deviations of the published code move the accuracy?
    transforms             which of the random transforms does a method need?
    crop_size              how much of the image should a view show?
    learning_rate          which learning rate does each method want?
    batch_size             who depends less on the batch size?
    other_methods          how do the other methods of the published code compare?
    borrowed_losses        are the losses of others good embedding losses?
    precision              does the arithmetic of pretraining matter?
    tour                   a tour on embedded digits, in minutes, on any machine

To add an experiment, add a file; `form` says what stands in it, and nothing else but this map needs to know.
"""

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell, require
from dae_ssl.experiments.form import FIGURES, FLOORS, Claim, Exhibit, Numbers, Row, Settings, Validation

ACCURACIES = Numbers(name="accuracies", title="Test accuracy")
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


@dataclass(frozen=True)
class Experiment:
    """A question, or several."""

    name: str
    module: ModuleType

    @property
    def question(self) -> str:
        """What is asked, in a line or more; empty where nothing is."""
        return (self.module.__doc__ or "").strip()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds it is computed for, if nobody says otherwise."""
        return tuple(getattr(self.module, "SEEDS", (0,)))

    @property
    def parts(self) -> tuple["Experiment", ...]:
        """The experiments it is made of; itself, if of no others."""
        return tuple(load(name) for name in getattr(self.module, "PARTS", ())) or (self,)

    def sections(
        self, seeds: Sequence[int] = (), changes: Settings | None = None, validation: AccuracyOf = nothing_known
    ) -> tuple[Section, ...]:
        """Return its parts with their cells, settings changed alike for all, as to try it out small.

        Where rows depend on validation accuracies, `validation` tells what is known of them. Raises ConfigError for a
        change that a cell cannot take.
        """
        return tuple(_section(part, tuple(seeds or self.seeds), changes or {}, validation) for part in self.parts)

    def in_order(self, sections: Iterable[Section]) -> list[Cell]:
        """Return all cells, each once, in the order in which they are worth most: seed by seed, what is FIRST first.

        Cells that only stand for choice among them come after those that are shown.
        """
        first = {name: place for place, name in enumerate(getattr(self.module, "FIRST", ()))}
        ranked: list[tuple[tuple[int, int, int], Cell]] = []
        for section in sections:
            place = first.get(section.name, len(first))
            for row, of_row in section.cells.items():
                own = row in section.shown
                ranked += [((n, place if own else len(first), 0 if own else 1), cell) for n, cell in enumerate(of_row)]
        return distinct(cell for _, cell in sorted(ranked, key=lambda item: item[0]))


def names() -> list[str]:
    """Return the names of all experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "form")


def load(name: str) -> Experiment:
    """Return an experiment by its name. Raises ConfigError for a name that is none."""
    require(name in names(), "experiment", name, ", ".join(names()))
    return Experiment(name, importlib.import_module(f"{__name__}.{name}"))


def _section(experiment: Experiment, seeds: tuple[int, ...], changes: Settings, validation: AccuracyOf) -> Section:
    module = experiment.module
    own: dict[str, Any] = getattr(module, "BASE", {})
    common = merged(own, changes)
    base = config.cell(common, method="random")

    def cells(settings: Settings) -> tuple[Cell, ...]:
        whole = merged(common, settings)
        return tuple(config.cell(whole, seed=seed) for seed in seeds)

    def by_seed(settings: Settings) -> dict[int, float]:
        known = {cell.seed: validation(cell) for cell in cells(settings)}
        return {seed: accuracy for seed, accuracy in known.items() if accuracy is not None}

    shown = tuple(_of(module, "rows", "ROWS", base, by_seed))
    computed = [row for row in shown if not row.among] + [candidate for row in shown for candidate in row.among]
    section = Section(
        experiment.name, experiment.question, base, shown, {row: cells(row.settings) for row in computed},
        tuple(getattr(module, "EXHIBITS", (ACCURACIES,))), tuple(_of(module, "claims", "CLAIMS", base)),
        another_study(base, config.cell(own, method="random")),
    )  # fmt: skip
    _check(section)
    return section


def another_study(base: Cell, own: Cell) -> bool:
    """Tell whether cells that are changes of `base` belong to another study than those that are changes of `own`.

    Anything does that decides what is learned from what, for how long and how that is measured: images, views,
    networks, length, schedule, features, probe. Precision alone does not: it is the arithmetic that the same study is
    computed with. Nor do seeds and floors, which are how many cells there are.
    """
    return replace(base, precision=own.precision) != own


def called(scales: Iterable[str], changes: Settings) -> str:
    """Return what tells the cells of a changed experiment from its own, as its page is named: "" if nothing does.

    scales: names of files of changes. Of further changes it is a hash, but for the precision, which stands as it is.
    """
    usual = Cell.precision
    precision = str(changes.get("precision", usual))
    others = {name: value for name, value in changes.items() if name != "precision"}
    hashed = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([*scales, *([hashed] if others else []), *([precision] if precision != usual else [])])


def _check(section: Section) -> None:
    """Raise ConfigError for a mistake in an experiment's file, which would otherwise show as a gap in its report."""
    where = f"experiment {section.name}"
    require(bool(section.question), f"{where}: docstring", None, "the question that it asks")
    require(bool(section.shown), f"{where}: rows", [], "ROWS, or rows(base, validation), of at least one row")
    labels = [row.label for row in section.shown]
    for label in labels:
        require(labels.count(label) == 1, f"{where}: row", label, "labels that differ")
    names = [exhibit.name for exhibit in section.exhibits]
    places = sorted({place for row in section.shown for place in row.at})
    for exhibit in section.exhibits:
        require(names.count(exhibit.name) == 1, f"{where}: exhibit", exhibit.name, "names that differ")
        for figure in exhibit.named_figures():
            require(figure in FIGURES, f"{where}: figure", figure, ", ".join(FIGURES))
        for place in exhibit.named_places():
            require(place in places, f"{where}: exhibit {exhibit.name}", place, f"what rows have in `at`: {places}")
    for claim in section.claims:
        require(claim.figure in FIGURES, f"{where}: figure", claim.figure, ", ".join(FIGURES))
        for label in claim.labels():
            known = (*labels, *FLOORS.values())
            require(label in known, f"{where}: row of a claim", label, f"one of its labels: {'; '.join(known)}")


def _of(module: ModuleType, function: str, constant: str, *given: Cell | Validation) -> Iterator[Any]:
    """Yield what a module makes of the base, or has as a constant."""
    yield from getattr(module, function)(*given) if hasattr(module, function) else getattr(module, constant, ())


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Return cells, each once, in their order."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(config.cell_key(cell), cell)
    return list(found.values())


def merged(settings: Settings, changes: Settings) -> dict[str, Any]:
    """Return nested settings with others in their place, leaf by leaf."""
    found = dict(settings)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if nested else value
    return found
