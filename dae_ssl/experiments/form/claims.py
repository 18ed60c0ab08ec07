"""Claims: statements on rows in words, each with a number that shows whether it is true."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dae_ssl.experiments.published import Published

BEST = "the best"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement in words, and a number that lies between `above` and `below` if the statement is true.

    The number is the weighted sum of rows' scores, with `weights` by the rows' keys; the keys of the floors are
    "random" and "pixels", and BEST stands for the best of the rows in `best`. Alternatively, `value` computes the
    number from the scores of each seed. Accuracies are in percent.
    """

    words: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    best: Sequence[str] = ()
    """The keys of the rows among which BEST is chosen. For test accuracies it is the row that is best on validation.
    For other scores it is, for each seed, the row that is best for the other seeds, since a maximum that is chosen and
    measured on the same numbers is biased by noise."""
    value: Callable[[Mapping[str, float]], float] | None = None
    rows: Sequence[str] = ()
    """The keys of the rows that `value` needs."""
    score: str = "test_accuracy"
    above: float = 0.0
    below: float = float("inf")
    published: Published | None = None

    def named_rows(self) -> tuple[str, ...]:
        """Return the keys of the rows and floors that the claim compares."""
        return (*(key for key in self.weights if key != BEST), *self.best, *self.rows)


def beats(
    better: str,
    worse: str,
    words: str,
    source: str,
    *,
    above: float = 0.0,
    below: float = float("inf"),
    published: Published | None = None,
) -> Claim:
    """Return the claim that one row's test accuracy exceeds another's by more than `above` and less than `below`.

    Rows are named by their keys; the differences are in points.
    """
    weights = {better: 1.0, worse: -1.0}
    return Claim(words=words, source=source, weights=weights, above=above, below=below, published=published)
