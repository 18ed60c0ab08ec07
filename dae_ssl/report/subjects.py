"""The rows of an experiment, as far as they were measured, and what is sure about them."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.experiments.form import FLOORS, Row
from dae_ssl.report import measures
from dae_ssl.report.findings import Findings
from dae_ssl.report.significance import Estimate, contrast, over_images, over_seeds
from dae_ssl.store import Store

T = TypeVar("T")
Reader = Callable[[Cell], Findings]

ACCURACIES = {"test_accuracy": "probe", "logistic_test_accuracy": "logistic"}
"""Figures of which it is known which test images were right, and the classifier."""


@dataclass(frozen=True)
class Subject:
    """A row or a floor, with what the store has of its cells."""

    label: str
    found: tuple[Findings, ...]
    """One for each seed, done or not; none for a row among which nothing can be chosen yet."""
    published: float | None = None
    at: Mapping[str, float | str] = field(default_factory=dict)
    chosen: str = ""
    """Of a row that validation chooses: which, and among how many."""
    settled: bool = True
    """Whether it has chosen among all that it is to choose from."""
    floor: bool = False
    key: str = ""
    """What claims name it by."""
    mark: str = ""
    """What is written beside its point or picture where there is no room for the label; the label without one."""

    @property
    def complete(self) -> bool:
        """Whether all of its cells are done, so that a figure which is not there is one that they do not have."""
        return bool(self.found) and not any(one.unfinished for one in self.found)

    def by_seed(self, figure: str) -> dict[int, float]:
        """Return a figure by seed, for the seeds that have it."""
        found = {one.cell.seed: measures.value(one, figure) for one in self.found}
        return {seed: value for seed, value in found.items() if value is not None}

    def estimate(self, figure: str) -> Estimate | None:
        """Return a figure's mean over seeds and how sure it is; None where no seed has it.

        An accuracy of one seed has an interval over test images, another figure of one seed none.
        """
        values = list(self.by_seed(figure).values())
        if not values:
            return None
        images = next((one.test_images for one in self.found if one.test_images), None)
        if len(values) == 1 and figure in ACCURACIES and images is not None:
            share = over_images(values[0] / 100, images)
            assert share.low is not None
            assert share.high is not None
            return Estimate(mean=values[0], low=100 * share.low, high=100 * share.high, seeds=1, over=share.over)
        return over_seeds(values)

    def correct(self, figure: str) -> dict[int, npt.NDArray[np.float64]]:
        """Return, by seed, which test images the classifier behind an accuracy got right, (n,).

        With several probe seeds: which share of them did.
        """
        name = ACCURACIES[figure]
        return {one.cell.seed: one.correct[name].mean(0, dtype=np.float64) for one in self.found if one.correct}


def reader(place: Store) -> Reader:
    """Return what reads cells of a store, each once, however many rows and parts it stands in."""
    return functools.cache(lambda cell: Findings(config.title(cell), cell, place))


def subjects(section: Section, floors: Sequence[Cell], read: Reader) -> list[Subject]:
    """Return the rows of a section, those that validation chooses as chosen, and the floors at the end."""

    def plain(row: Row) -> Subject:
        return Subject(
            row.label, tuple(map(read, section.cells[row])), row.published, row.at, key=row.key, mark=row.mark
        )

    found = [_chosen(row, [plain(one) for one in row.among]) if row.among else plain(row) for row in section.shown]
    for (key, words), cells in _evaluated_alike(floors).items():
        found.append(Subject(words, tuple(map(read, cells)), floor=True, key=key))
    return found


def _evaluated_alike(floors: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """Return the floors by key and name; one that is evaluated otherwise than the first has that in its name."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for method, words in FLOORS.items():
        own = [cell for cell in floors if cell.method.name == method]
        for cell in own:
            seedless = replace(cell, seed=own[0].seed)
            unlike = [*config.differences(own[0], seedless, "probe"), *config.differences(own[0], seedless, "kmeans")]
            told = {name.rpartition("parent.")[2]: value for name, _, value in unlike}
            more = "".join(f", {name} = {value}" for name, value in told.items())
            found.setdefault((f"{method}{more}", f"{words}{more}"), []).append(cell)
    return found


def _chosen(row: Row, candidates: Sequence[Subject]) -> Subject:
    """Return the candidate with the best mean validation accuracy, under the name of the row.

    Candidates are compared over the same seeds: those of which most candidates are done.
    """
    accuracies = [one.by_seed("validation_accuracy") for one in candidates]
    counts = Counter(seed for of_seed in accuracies for seed in of_seed)
    seeds = [seed for seed, count in counts.items() if count == max(counts.values())]
    known = [place for place, of_seed in enumerate(accuracies) if seeds and of_seed.keys() >= set(seeds)]
    if not known:
        return Subject(row.label, (), row.published, row.at, f"none of {len(candidates)} is done", settled=False,
                       key=row.key)  # fmt: skip
    chosen = candidates[max(known, key=lambda place: sum(accuracies[place][seed] for seed in seeds))]
    among = str(len(candidates)) if len(known) == len(candidates) else f"the {len(known)} of {len(candidates)} done"
    settings = ", ".join(f"{name} = {value:g}" for name, value in chosen.at.items() if isinstance(value, float))
    told = f"{settings.replace('alpha', 'α')}, chosen among {among}"
    settled = len(known) == len(candidates)
    return Subject(row.label, chosen.found, row.published, row.at, told, settled=settled, key=row.key)


def paired(weights: Mapping[str, float], by_label: Mapping[str, Subject], figure: str) -> Estimate | None:
    """Return a weighted sum of subjects' figures, paired over the seeds that all of them have.

    Accuracies are paired over test images too. None where a subject is missing or no seed is shared; a floor that has
    no seed stands beside every seed.
    """
    subjects = [by_label[label] for label in weights if label in by_label]
    if len(subjects) < len(weights):
        return None
    values = [one.by_seed(figure) for one in subjects]
    seeds = _shared_seeds(values, subjects)
    if not seeds:
        return None
    if figure in ACCURACIES:
        right = [one.correct(figure) for one in subjects]
        if len({of_seed.shape for by_seed in right for of_seed in by_seed.values()}) == 1:
            stacked = [np.stack([_of_seed(by_seed, seed) for seed in seeds]) for by_seed in right]
            return _scaled(contrast(stacked, list(weights.values())), 100.0)
    return over_seeds([
        sum(weight * _of_seed(of_seed, seed) for weight, of_seed in zip(weights.values(), values, strict=True))
        for seed in seeds
    ])  # fmt: skip


def by_seed(labels: Sequence[str], by_label: Mapping[str, Subject], figure: str) -> dict[int, dict[str, float]]:
    """Return a figure of several subjects by seed, for the seeds that all of them have."""
    if any(label not in by_label for label in labels):
        return {}
    subjects = [by_label[label] for label in labels]
    values = [one.by_seed(figure) for one in subjects]
    return {
        seed: {label: _of_seed(of_seed, seed) for label, of_seed in zip(labels, values, strict=True)}
        for seed in _shared_seeds(values, subjects)
    }


def _shared_seeds(values: Sequence[Mapping[int, object]], subjects: Sequence[Subject]) -> list[int]:
    seeded = [set(of_seed) for of_seed, one in zip(values, subjects, strict=True) if _has_seeds(one) or not of_seed]
    if not seeded:
        return sorted(set.union(*map(set, values))) if values else []
    return sorted(set.intersection(*seeded))


def _has_seeds(subject: Subject) -> bool:
    """Tell whether a subject is computed for each seed; raw pixels are not."""
    return any(one.cell.method.has_encoder for one in subject.found) or not subject.found


def _of_seed(by_seed: Mapping[int, T], seed: int) -> T:
    """Return what is known of a seed, or of the only one there is."""
    return by_seed[seed] if seed in by_seed else next(iter(by_seed.values()))


def _scaled(estimate: Estimate, by: float) -> Estimate:
    low, high = (None if edge is None else by * edge for edge in (estimate.low, estimate.high))
    return Estimate(mean=by * estimate.mean, low=low, high=high, p=estimate.p, seeds=estimate.seeds, over=estimate.over)
