"""What is published, held against what was measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dae_ssl.experiments.form import BEST, Claim
from dae_ssl.report.significance import Estimate, over_seeds
from dae_ssl.report.subjects import ACCURACIES, Subject, by_seed, paired

AGREES, DIFFERS, UNMEASURED = "agrees within the interval", "differs", "not yet measured"
UNCHOSEN = "α not chosen yet"
REDUCED = "not comparable: reduced"
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
ONE_SEED = " (one seed)"
"""Behind a verdict that knows nothing of what another seed would give."""
NO_INTERVAL, NO_ROW = "undecided (one seed)", "its floor is left out"


def of_number(published: float, measured: Estimate | None, *, reduced: bool, chosen: bool = True) -> str:
    """Return whether a published number lies within the interval of the measured one.

    Not of a row of which validation has not chosen yet among all that it is to choose from.
    """
    if measured is None:
        return UNMEASURED
    if reduced:
        return REDUCED
    if not chosen:
        return UNCHOSEN
    if measured.low is None or measured.high is None:
        return NO_INTERVAL
    return (AGREES if measured.low <= published <= measured.high else DIFFERS) + _seeds(measured)


def _seeds(estimate: Estimate) -> str:
    return ONE_SEED if estimate.seeds == 1 else ""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A claim, its statistic, and whether it holds."""

    claim: Claim
    estimate: Estimate | None
    verdict: str


def tested(claims: Sequence[Claim], by_label: Mapping[str, Subject]) -> list[Tested]:
    """Test each claim, as far as what it speaks of was measured."""
    found = []
    for claim in claims:
        known = all(key in by_label for key in claim.named_rows())
        estimate = _estimate(claim, by_label) if known else None
        verdict = _of_claim(claim, estimate) if known else NO_ROW
        if estimate is not None and not all(by_label[key].settled for key in claim.named_rows()):
            verdict = UNCHOSEN
        found.append(Tested(claim=claim, estimate=estimate, verdict=verdict))
    return found


def _estimate(claim: Claim, by_label: Mapping[str, Subject]) -> Estimate | None:
    if claim.best and claim.score in ACCURACIES:
        of_validation = by_seed(claim.best, by_label, "validation_accuracy")
        if not of_validation:
            return None
        return paired(claim.weights, {**by_label, BEST: by_label[_best(claim.best, of_validation.values())]},
                      claim.score)  # fmt: skip
    if claim.best or claim.value:
        of_seeds = by_seed(claim.named_rows(), by_label, claim.score)
        values = [_value(claim, of_seeds, seed) for seed in of_seeds]
        # A test of these values would not be one: they share the choice, or are the extreme of several.
        return replace(over_seeds(values), p=None) if values else None
    return paired(claim.weights, by_label, claim.score)


def _value(claim: Claim, of_seeds: Mapping[int, Mapping[str, float]], seed: int) -> float:
    """Return a claim's number for one seed, its best row being that of the other seeds, if there are any."""
    figures = dict(of_seeds[seed])
    if claim.value is not None:
        return claim.value(figures)
    others = [of_seeds[other] for other in of_seeds if other != seed]
    figures[BEST] = figures[_best(claim.best, others or [figures])]
    return sum(weight * figures[label] for label, weight in claim.weights.items())


def _best(labels: Sequence[str], figures: Iterable[Mapping[str, float]]) -> str:
    """Return the label whose figure is highest on average."""
    every = list(figures)
    return max(labels, key=lambda label: sum(one[label] for one in every))


def _of_claim(claim: Claim, estimate: Estimate | None) -> str:
    """A claim holds if the whole interval lies where it says, and fails if all of it lies elsewhere."""
    if estimate is None:
        return UNMEASURED
    if estimate.low is None or estimate.high is None:
        return NO_INTERVAL
    if claim.above < estimate.low and estimate.high < claim.below:
        return HOLDS + _seeds(estimate)
    if estimate.high <= claim.above or estimate.low >= claim.below:
        return FAILS + _seeds(estimate)
    return UNDECIDED
