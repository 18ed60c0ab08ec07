"""What is said of rows, in words, as numbers that tell whether it is so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dae_ssl.experiments.published import Published

BEST = "the best"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something said in words, as a number that lies between two others if it is true.

    The number is the sum of the rows' scores times `weights`, by the rows' keys; the floors' are "random" and "pixels",
    BEST is the best of some rows. Or it is what `value` makes of each seed's scores. Accuracies are in percent.
    """

    words: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    best: Sequence[str] = ()
    """Keys of the rows of which BEST is one. For accuracies on test it is the one that is best on validation; for other
    scores it is, for each seed, the one whose score is highest for the other seeds: a peak looked for where it is
    measured would be found in noise."""
    value: Callable[[Mapping[str, float]], float] | None = None
    rows: Sequence[str] = ()
    """Keys of the rows that `value` needs."""
    score: str = "test_accuracy"
    above: float = 0.0
    below: float = float("inf")
    published: Published | None = None

    def named_rows(self) -> tuple[str, ...]:
        """Return the keys of the rows and floors that it speaks of."""
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
    """Return the claim that one row's test accuracy is above another's, by so many points; rows by their keys."""
    weights = {better: 1.0, worse: -1.0}
    return Claim(words=words, source=source, weights=weights, above=above, below=below, published=published)
