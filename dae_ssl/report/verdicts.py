"""What is published, held against what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dae_ssl.experiments.form import Claim
from dae_ssl.report.significance import Estimate, over_seeds
from dae_ssl.report.subjects import Subject, by_seed, paired

AGREES, DIFFERS, UNMEASURED = "agrees within the interval", "differs", "not yet measured"
REDUCED = "not comparable: reduced"
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NO_INTERVAL, NO_ROW = "undecided: one seed, no interval", "no such row at this scale"


def of_number(published: float, measured: Estimate | None, *, reduced: bool) -> str:
    """Return whether a published number lies within the interval of the measured one."""
    if measured is None:
        return UNMEASURED
    if reduced:
        return REDUCED
    if measured.low is None or measured.high is None:
        return NO_INTERVAL
    return AGREES if measured.low <= published <= measured.high else DIFFERS


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
        known = all(label in by_label for label in claim.labels())
        estimate = _estimate(claim, by_label) if known else None
        found.append(Tested(claim=claim, estimate=estimate, verdict=_of_claim(claim, estimate) if known else NO_ROW))
    return found


def _estimate(claim: Claim, by_label: Mapping[str, Subject]) -> Estimate | None:
    if claim.value is None:
        return paired(claim.weights, by_label, claim.figure)
    of_seeds = by_seed(claim.labels(), by_label, claim.figure)
    return over_seeds([claim.value(figures) for figures in of_seeds.values()]) if of_seeds else None


def _of_claim(claim: Claim, estimate: Estimate | None) -> str:
    """A claim holds if the whole interval lies where it says, and fails if all of it lies elsewhere."""
    if estimate is None:
        return UNMEASURED
    if estimate.low is None or estimate.high is None:
        return NO_INTERVAL
    if claim.above < estimate.low and estimate.high < claim.below:
        return HOLDS
    return FAILS if estimate.high <= claim.above or estimate.low >= claim.below else UNDECIDED
