"""Compare published numbers and claims with the measured scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dae_ssl.experiments.form import BEST, Claim
from dae_ssl.report.experiment.subjects import Subject, by_seed, paired
from dae_ssl.report.scores import CLASSIFIERS
from dae_ssl.report.significance import Estimate, over_seeds

AGREES, DIFFERS, UNMEASURED = "agrees within the interval", "differs", "not yet measured"
UNCHOSEN = "α not chosen yet"
REDUCED = "not comparable: reduced"
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
ONE_SEED = " (one seed)"
"""Appended to a verdict that does not account for the choice of the seed."""
NO_INTERVAL, NO_ROW = "undecided (one seed)", "its floor is left out"


# ---------------------------------------------------------------------------------- published numbers


def of_number(subject: Subject, *, reduced: bool) -> str:
    """Return the verdict on whether a row's published number lies within the interval of its test accuracy."""
    assert subject.row.published is not None
    measured = subject.estimate("test_accuracy")
    return compared(subject.row.published, measured, reduced=reduced, settled=subject.settled)


def compared(published: float, measured: Estimate | None, *, reduced: bool, settled: bool = True) -> str:
    """Return the verdict on whether a published number lies within the interval of the measured one.

    Numbers of a reduced study are not judged, nor are those of a row whose choice by validation is not final.
    """
    if measured is None:
        return UNMEASURED
    if reduced:
        return REDUCED
    if not settled:
        return UNCHOSEN
    if measured.low is None or measured.high is None:
        return NO_INTERVAL
    return (AGREES if measured.low <= published <= measured.high else DIFFERS) + _seeds(measured)


def _seeds(estimate: Estimate) -> str:
    return ONE_SEED if estimate.seeds == 1 else ""


# ---------------------------------------------------------------------------------- claims


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A claim, its statistic, and the verdict."""

    claim: Claim
    estimate: Estimate | None
    verdict: str


def tested(claims: Sequence[Claim], by_key: Mapping[str, Subject]) -> list[Tested]:
    """Test each claim as far as its rows have been measured; `by_key` maps the keys of rows to subjects."""
    return [_tested(claim, by_key) for claim in claims]


def _tested(claim: Claim, by_key: Mapping[str, Subject]) -> Tested:
    if not all(key in by_key for key in claim.named_rows()):
        return Tested(claim=claim, estimate=None, verdict=NO_ROW)
    estimate = _estimate(claim, by_key)
    verdict = _of_claim(claim, estimate)
    if estimate is not None and not all(by_key[key].settled for key in claim.named_rows()):
        verdict = UNCHOSEN
    return Tested(claim=claim, estimate=estimate, verdict=verdict)


def _estimate(claim: Claim, by_key: Mapping[str, Subject]) -> Estimate | None:
    if claim.best and claim.score in CLASSIFIERS:
        of_validation = by_seed(claim.best, by_key, "validation_accuracy")
        if not of_validation:
            return None
        by_key = {**by_key, BEST: by_key[_best(claim.best, of_validation.values())]}
    elif claim.best or claim.value:
        of_seeds = by_seed(claim.named_rows(), by_key, claim.score)
        values = [_value(claim, of_seeds, seed) for seed in of_seeds]
        # A t-test would not be valid here: the values share the choice of the best row, or are extremes of several.
        return replace(over_seeds(values), p=None) if values else None
    return paired([(by_key[key], weight) for key, weight in claim.weights.items()], claim.score)


def _value(claim: Claim, of_seeds: Mapping[int, Mapping[str, float]], seed: int) -> float:
    """Return a claim's number for one seed; its best row is chosen on the other seeds, if there are any."""
    by_key = dict(of_seeds[seed])
    if claim.value is not None:
        return claim.value(by_key)
    others = [of_seeds[other] for other in of_seeds if other != seed]
    by_key[BEST] = by_key[_best(claim.best, others or [by_key])]
    return sum(weight * by_key[key] for key, weight in claim.weights.items())


def _best(keys: Sequence[str], of_seeds: Iterable[Mapping[str, float]]) -> str:
    """Return the key with the highest mean score over seeds."""
    by_seed = list(of_seeds)
    return max(keys, key=lambda key: sum(by_key[key] for by_key in by_seed))


def _of_claim(claim: Claim, estimate: Estimate | None) -> str:
    """Return the verdict on a claim, which holds if its range contains the interval, and fails if they are disjoint."""
    if estimate is None:
        return UNMEASURED
    if estimate.low is None or estimate.high is None:
        return NO_INTERVAL
    if claim.above < estimate.low and estimate.high < claim.below:
        return HOLDS + _seeds(estimate)
    if estimate.high <= claim.above or estimate.low >= claim.below:
        return FAILS + _seeds(estimate)
    return UNDECIDED
