"""How sure an accuracy is, and whether two classifiers differ, from the test images they got right."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtri  # scipy.stats takes seconds to import


def wilson_interval(share: float, images: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval within [0, 1] for an accuracy that is `share` on so many images, not over seeds.

    The score interval of Wilson 1927, "Probable inference, the law of succession, and statistical inference"; the
    share may be the mean over seeds that saw the same images. Raises ValueError without images or with no share.
    """
    if images < 1 or not 0 <= share <= 1:
        raise ValueError(f"share={share}, images={images}: give a share between 0 and 1 of at least one image")
    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    reach = z / (1 + z * z / images) * np.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Return the two-sided exact p-value of McNemar's test that two classifiers err equally often.

    one, other: which of the same images each got right, (n,). Only images that just one of them got right count: each
    is a toss of a fair coin if they are equally good (McNemar 1947; exact, by the binomial distribution). Raises
    ValueError for arrays that cannot be paired.
    """
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"images right {one.shape} and {other.shape}: give two arrays (n,) of the same images")
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(bdtr(min(only_one, only_other), only_one + only_other, 0.5)))


def told_p(values: Sequence[float]) -> str:
    """Return p-values, one for each seed, as people read them: `p = 0.034`, `p = 0.034 to 0.21 over 3 seeds`."""
    low, high = _told(min(values)), _told(max(values))
    if low == high:
        seeds = "" if len(values) == 1 else f" for all {len(values)} seeds"
        return f"p {low}{seeds}"
    return f"p {low} to {high.removeprefix('= ')} over {len(values)} seeds"


def _told(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
