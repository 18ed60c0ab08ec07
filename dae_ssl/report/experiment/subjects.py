"""Compute the scores and differences of an experiment's rows from what has been measured, with intervals."""

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
    """A row or a floor, with the results of its cells in the store."""

    row: Row
    """The row; that of a floor has only a label and a key."""
    findings: tuple[Findings, ...] = ()
    """One cell for each seed, done or not; none if the row is chosen by validation and cannot be chosen yet."""
    chosen: str = ""
    """For a row that is chosen by validation: the chosen setting, and the number of candidates."""
    settled: bool = True
    """Whether the choice is final, which it is once all candidates are done."""
    floor: bool = False

    @property
    def complete(self) -> bool:
        """Whether all of its cells are done, so that a score that is absent will stay absent."""
        return bool(self.findings) and not any(of_seed.unfinished for of_seed in self.findings)

    @property
    def seeded(self) -> bool:
        """Whether it is computed for each seed; raw pixels are not, since they have no encoder."""
        return any(of_seed.cell.method.has_encoder for of_seed in self.findings) or not self.findings

    def by_seed(self, score: str) -> dict[int, float]:
        """Return a score by seed, for the seeds that have it."""
        values = {of_seed.cell.seed: scores.score(of_seed, score) for of_seed in self.findings}
        return {seed: value for seed, value in values.items() if value is not None}

    def estimate(self, score: str) -> Estimate | None:
        """Return the mean of a score over seeds with its interval, or None if no seed has it.

        With one seed an accuracy has an interval over test images, and any other score has none.
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
        """Return by seed which test images the classifier of an accuracy got right, as floats of shape (n,).

        Each value is the share of the probe seeds that got the image right.
        """
        name = CLASSIFIERS[score]
        return {
            of_seed.cell.seed: of_seed.correct[name].mean(0, dtype=np.float64)
            for of_seed in self.findings if of_seed.correct
        }  # fmt: skip


# ---------------------------------------------------------------------------------- the rows of a section


def subjects(section: Section, floors: Sequence[Cell], read: Reader) -> list[Subject]:
    """Return the rows of a section, with the choices of validation, and the floors at the end."""

    def measured(row: Row) -> Subject:
        return Subject(row, tuple(map(read, section.cells[row])))

    rows = [_chosen(row, [*map(measured, row.among)]) if row.among else measured(row) for row in section.shown]
    beside = [Subject(row, tuple(map(read, cells)), floor=True) for row, cells in _floors(floors)]
    return [*rows, *beside]


def _floors(floors: Sequence[Cell]) -> list[tuple[Row, list[Cell]]]:
    """Return the floors with their cells; the name of a floor shows how its evaluation differs from the first one's."""
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

    Candidates are compared over the same seeds, which are those for which the most candidates are done.
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


# ---------------------------------------------------------------------------------- differences


def change(subject: Subject, start: Subject, score: str) -> Estimate | None:
    """Return the paired difference of a subject's score from that of `start`; 0 for `start` itself."""
    if subject is not start:
        return paired([(subject, 1.0), (start, -1.0)], score)
    estimate = start.estimate(score)
    return None if estimate is None else Estimate(mean=0.0, seeds=estimate.seeds)


def paired(weighted: Sequence[tuple[Subject, float]], score: str) -> Estimate | None:
    """Return a weighted sum of subjects' scores, paired over the seeds that all of them have.

    Accuracies are paired over test images too. The result is None if they share no seed; a floor without seeds is
    paired with every seed.
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
    """Return the value of a seed, or the only value of a subject without seeds."""
    return values[seed] if seed in values else next(iter(values.values()))


def _scaled(estimate: Estimate, by: float) -> Estimate:
    low, high = (None if edge is None else by * edge for edge in (estimate.low, estimate.high))
    return replace(estimate, mean=by * estimate.mean, low=low, high=high)
