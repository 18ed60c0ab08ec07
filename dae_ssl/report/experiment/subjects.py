"""The rows of an experiment, as far as they were measured, and how sure their scores and differences are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.experiments.form import FLOORS, Row
from dae_ssl.report import scores
from dae_ssl.report.findings import Findings, Reader
from dae_ssl.report.scores import CLASSIFIERS
from dae_ssl.report.significance import Estimate, contrast, over_images, over_seeds

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """A row or a floor, with what the store has of its cells."""

    row: Row
    """What it is; a floor has nothing but a label and a key."""
    findings: tuple[Findings, ...] = ()
    """A cell for each seed, done or not; none for a row among which nothing can be chosen yet."""
    chosen: str = ""
    """For a row that validation chooses: which, and among how many."""
    settled: bool = True
    """Whether it has chosen among all that it is to choose from."""
    floor: bool = False

    @property
    def complete(self) -> bool:
        """Whether all of its cells are done, so that a score which is not there is one that they do not have."""
        return bool(self.findings) and not any(of_seed.unfinished for of_seed in self.findings)

    @property
    def seeded(self) -> bool:
        """Whether it is computed for each seed; raw pixels are not, as they have no encoder."""
        return any(of_seed.cell.method.has_encoder for of_seed in self.findings) or not self.findings

    def by_seed(self, score: str) -> dict[int, float]:
        """Return a score by seed, for the seeds that have it."""
        values = {of_seed.cell.seed: scores.score(of_seed, score) for of_seed in self.findings}
        return {seed: value for seed, value in values.items() if value is not None}

    def estimate(self, score: str) -> Estimate | None:
        """Return a score's mean over seeds and how sure it is; None where no seed has it.

        An accuracy of one seed has an interval over test images, another score of one seed none.
        """
        values = list(self.by_seed(score).values())
        if not values:
            return None
        images = next((of_seed.test_images for of_seed in self.findings if of_seed.test_images), None)
        if len(values) == 1 and score in CLASSIFIERS and images is not None:
            share = over_images(values[0] / 100, images)
            assert share.low is not None
            assert share.high is not None
            return Estimate(mean=values[0], low=100 * share.low, high=100 * share.high, seeds=1, over=share.over)
        return over_seeds(values)

    def correct(self, score: str) -> dict[int, npt.NDArray[np.float64]]:
        """Return, by seed, which test images the classifier behind an accuracy got right, (n,).

        With several probe seeds: which share of them did.
        """
        name = CLASSIFIERS[score]
        return {
            of_seed.cell.seed: of_seed.correct[name].mean(0, dtype=np.float64)
            for of_seed in self.findings if of_seed.correct
        }  # fmt: skip


# ---------------------------------------------------------------------------------- the rows of a section


def subjects(section: Section, floors: Sequence[Cell], read: Reader) -> list[Subject]:
    """Return the rows of a section, those that validation chooses as chosen, and the floors at the end."""

    def measured(row: Row) -> Subject:
        return Subject(row, tuple(map(read, section.cells[row])))

    rows = [_chosen(row, [*map(measured, row.among)]) if row.among else measured(row) for row in section.shown]
    beside = [Subject(row, tuple(map(read, cells)), floor=True) for row, cells in _floors(floors)]
    return [*rows, *beside]


def _floors(floors: Sequence[Cell]) -> list[tuple[Row, list[Cell]]]:
    """Return the floors with their cells; one that is evaluated otherwise than the first has that in its name."""
    alike: dict[tuple[str, str], list[Cell]] = {}
    for method in FLOORS:
        of_method = [cell for cell in floors if cell.method.name == method]
        for cell in of_method:
            first, seedless = of_method[0], replace(cell, seed=of_method[0].seed)
            unlike = [*config.differences(first, seedless, "probe"), *config.differences(first, seedless, "kmeans")]
            settings = {name.rpartition("parent.")[2]: value for name, _, value in unlike}
            more = "".join(f", {name} = {value}" for name, value in settings.items())
            alike.setdefault((method, more), []).append(cell)
    return [(Row(f"{FLOORS[method]}{more}", key=f"{method}{more}"), cells) for (method, more), cells in alike.items()]


def _chosen(row: Row, candidates: Sequence[Subject]) -> Subject:
    """Return the row with the cells of the candidate that has the best mean validation accuracy.

    Candidates are compared over the same seeds: those for which most candidates are done.
    """
    accuracies = [candidate.by_seed("validation_accuracy") for candidate in candidates]
    counts = Counter(seed for by_seed in accuracies for seed in by_seed)
    seeds = [seed for seed, count in counts.items() if count == max(counts.values())]
    done = [number for number, by_seed in enumerate(accuracies) if seeds and by_seed.keys() >= set(seeds)]
    if not done:
        return Subject(row, (), f"none of {len(candidates)} is done", settled=False)
    best = candidates[max(done, key=lambda number: sum(accuracies[number][seed] for seed in seeds))]
    settled = len(done) == len(candidates)
    among = str(len(candidates)) if settled else f"the {len(done)} of {len(candidates)} done"
    settings = ", ".join(f"{name} = {value:g}" for name, value in best.row.at.items() if isinstance(value, float))
    chosen = f"{settings.replace('alpha', 'α')}, chosen among {among}"
    return Subject(row, best.findings, chosen, settled=settled)


# ---------------------------------------------------------------------------------- one against another


def change(subject: Subject, start: Subject, score: str) -> Estimate | None:
    """Return how far a subject's score is above that of the one it starts from, paired; 0 for that one itself."""
    if subject is not start:
        return paired([(subject, 1.0), (start, -1.0)], score)
    estimate = start.estimate(score)
    return None if estimate is None else Estimate(mean=0.0, seeds=estimate.seeds)


def paired(weighted: Sequence[tuple[Subject, float]], score: str) -> Estimate | None:
    """Return a weighted sum of subjects' scores, paired over the seeds that all of them have.

    Accuracies are paired over test images too. None where no seed is shared; a floor that has no seed stands beside
    every seed.
    """
    summed, weights = [subject for subject, _ in weighted], [weight for _, weight in weighted]
    values = [subject.by_seed(score) for subject in summed]
    seeds = _shared_seeds(values, summed)
    if not seeds:
        return None
    if score in CLASSIFIERS:
        right = [subject.correct(score) for subject in summed]
        if len({images.shape for by_seed in right for images in by_seed.values()}) == 1:
            stacked = [np.stack([_of_seed(by_seed, seed) for seed in seeds]) for by_seed in right]
            return _scaled(contrast(stacked, weights), 100.0)
    return over_seeds([
        sum(weight * _of_seed(by_seed, seed) for by_seed, weight in zip(values, weights, strict=True))
        for seed in seeds
    ])  # fmt: skip


def by_seed(keys: Sequence[str], by_key: Mapping[str, Subject], score: str) -> dict[int, dict[str, float]]:
    """Return a score of several subjects by seed and key, for the seeds that all of them have."""
    compared = [by_key[key] for key in keys]
    values = [subject.by_seed(score) for subject in compared]
    return {
        seed: {key: _of_seed(of_subject, seed) for key, of_subject in zip(keys, values, strict=True)}
        for seed in _shared_seeds(values, compared)
    }


def _shared_seeds(values: Sequence[Mapping[int, object]], compared: Sequence[Subject]) -> list[int]:
    seeded = [
        set(of_subject) for of_subject, subject in zip(values, compared, strict=True)
        if subject.seeded or not of_subject
    ]  # fmt: skip
    if not seeded:
        return sorted(set.union(*map(set, values))) if values else []
    return sorted(set.intersection(*seeded))


def _of_seed(values: Mapping[int, T], seed: int) -> T:
    """Return what is known of a seed, or of the only one there is."""
    return values[seed] if seed in values else next(iter(values.values()))


def _scaled(estimate: Estimate, by: float) -> Estimate:
    low, high = (None if edge is None else by * edge for edge in (estimate.low, estimate.high))
    return replace(estimate, mean=by * estimate.mean, low=low, high=high)
