"""How sure a score is: against the binomial distribution, published tables, SciPy, resampling and simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from dae_ssl.report.significance import contrast, mcnemar, over_images, over_seeds, wilson_interval


def test_mcnemar_is_the_two_sided_binomial_probability() -> None:
    random = np.random.default_rng(0)
    for images in (1, 5, 40):
        for _ in range(20):
            one, other = random.random(images) < 0.7, random.random(images) < 0.4
            b, c = sum(x and not y for x, y in zip(one, other, strict=True)), int((other & ~one).sum())
            n = b + c
            # By symmetry: at least as far from n / 2 as b is.
            tosses = [math.comb(n, k) / 2**n for k in range(n + 1) if abs(k - n / 2) >= abs(b - n / 2)]
            assert mcnemar(one, other) == pytest.approx(sum(tosses))


def test_mcnemar_refuses_what_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match=r"arrays of shapes \(3,\) and \(2,\)"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))


def test_wilson_interval_is_the_published_one() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score): 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    low_and_high = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (right, images), expected in low_and_high.items():
        assert wilson_interval(right / images, images) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("share", "images"), [(1.1, 10), (0.5, 0), (float("nan"), 10)])
def test_wilson_interval_refuses_what_is_no_share(share: float, images: int) -> None:
    with pytest.raises(ValueError, match="give a share between 0 and 1"):
        wilson_interval(share, images)


# ---------------------------------------------------------------------------------- over seeds


@pytest.mark.parametrize("values", [[61.0, 62.5], [67.1, 66.9, 67.4], [1.0, 2.0, 4.0, 8.0, 16.0]])
def test_interval_over_seeds_is_students(values: list[float]) -> None:
    found = over_seeds(values)
    expected = scipy.stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), interval.low, interval.high))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.seeds, found.over) == (len(values), "seeds")


def test_one_seed_has_no_interval_over_seeds_but_an_accuracy_one_over_images() -> None:
    assert (over_seeds([3.0]).low, over_seeds([3.0]).over) == (None, "nothing")
    found = over_images(81 / 263, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    with pytest.raises(ValueError, match="give one for each seed"):
        over_seeds([])


# ---------------------------------------------------------------------------------- paired over images and seeds


def classifiers(seeds: int, images: int, *, spread: float, difference: float, random: np.random.Generator):
    """Return two classifiers of images that are hard alike; `spread` is the deviation of each seed's own skill."""
    hardness = random.normal(size=images)
    skills = random.normal(0, spread, (2, seeds, 1)) + np.array([difference, 0.0])[:, None, None]
    return (hardness + skills + random.normal(size=(2, seeds, images))) > 0


def test_one_seed_of_two_classifiers_is_judged_by_mcnemar_and_the_paired_differences() -> None:
    one, other = classifiers(1, 2000, spread=0, difference=0.1, random=np.random.default_rng(1))
    found = contrast([one, other], [1.0, -1.0])
    differences = one[0].astype(float) - other[0]
    error = differences.std(ddof=1) / math.sqrt(2000)
    assert found.p == mcnemar(one[0], other[0])
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * error, found.mean + 1.96 * error), rel=1e-3)
    assert found.over == "images"


def test_interval_over_images_is_what_resampling_them_gives() -> None:
    random = np.random.default_rng(2)
    three = [*classifiers(1, 1500, spread=0, difference=0.3, random=random),
             classifiers(1, 1500, spread=0, difference=0, random=random)[0]]  # fmt: skip
    weights = [1.0, 0.5, -1.5]
    found = contrast(three, weights)
    by_image = sum(weight * one[0] for weight, one in zip(weights, three, strict=True))
    resampled = [by_image[random.integers(0, 1500, 1500)].mean() for _ in range(4000)]
    assert (found.low, found.high) == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=2e-3)


def test_seeds_that_agree_leave_the_images_and_many_images_leave_the_seeds() -> None:
    one = classifiers(1, 3000, spread=0, difference=0.2, random=np.random.default_rng(3))
    repeated = [np.repeat(of, 3, axis=0) for of in one]
    assert contrast(repeated, [1.0, -1.0]).high == pytest.approx(contrast(list(one), [1.0, -1.0]).high, rel=1e-6)
    random = np.random.default_rng(4)
    unlike = classifiers(4, 200_000, spread=0.3, difference=0.0, random=random)
    of_seeds = unlike[0].mean(1) - unlike[1].mean(1)
    expected = over_seeds(list(of_seeds))
    assert contrast(list(unlike), [1.0, -1.0]).high == pytest.approx(expected.high, rel=0.05)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.05), (3, 0.05), (3, 0.0), (5, 0.2)])
def test_interval_holds_the_true_difference_at_least_as_often_as_it_says(seeds: int, spread: float) -> None:
    """The true difference is 0: both classifiers are drawn alike. For one seed it has to be true of these seeds."""
    random, held, trials = np.random.default_rng(5), 0, 400
    for _ in range(trials):
        found = contrast(list(classifiers(seeds, 300, spread=spread, difference=0, random=random)), [1.0, -1.0])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held / trials > 0.92  # three standard errors of 400 trials below 95 %


def test_contrast_refuses_what_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="give one array"):
        contrast([np.ones((1, 3), bool), np.ones((1, 2), bool)], [1.0, -1.0])
    with pytest.raises(ValueError, match="give one array"):
        contrast([np.ones((1, 3), bool)], [1.0, -1.0])
