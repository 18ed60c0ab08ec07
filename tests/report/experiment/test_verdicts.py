"""What is published, held against what was measured: numbers and claims."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dae_ssl.experiments.form import BEST, Claim, Row, beats
from dae_ssl.report.experiment import verdicts
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.significance import Estimate, contrast, over_seeds
from dae_ssl.store import Store
from tests.report.experiment.conftest import SEEDS, by_key, by_label


def test_claim_is_a_difference_paired_over_images_and_seeds(store: Store) -> None:
    shown = by_label(store, "denoising")
    dae, ae = (shown[f"{kind}, no embedding loss"] for kind in ("DAE", "AE"))
    (test,) = verdicts.tested([beats(dae.row.key, ae.row.key, "better", "here")], by_key(shown))
    arrays = [np.stack([of_seed.correct["probe"].mean(0) for of_seed in subject.findings]) for subject in (dae, ae)]
    expected = contrast(arrays, [1.0, -1.0])
    assert test.estimate is not None
    assert test.estimate.mean == pytest.approx(100 * expected.mean)
    assert (test.estimate.seeds, test.estimate.over, test.verdict) == (2, "seeds and images", verdicts.HOLDS)
    (reverse,) = verdicts.tested([beats(ae.row.key, dae.row.key, "worse", "here")], by_key(shown))
    assert reverse.verdict == verdicts.FAILS


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "verdict"),
    [
        (1, 2, 0, 9, verdicts.HOLDS),
        (-1, 2, 0, 9, verdicts.UNDECIDED),
        (-2, -1, 0, 9, verdicts.FAILS),
        (8, 10, 0, 9, verdicts.UNDECIDED),
        (9, 10, 0, 9, verdicts.FAILS),
        (None, None, 0, 9, verdicts.NO_INTERVAL),
    ],
)
def test_claim_holds_if_the_whole_interval_lies_where_it_says(
    low: float | None, high: float | None, above: float, below: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "paired", lambda *_: Estimate(mean=1, low=low, high=high, seeds=2))
    claim = Claim(words="", source="", weights={"a": 1}, above=above, below=below)
    (test,) = verdicts.tested([claim], {"a": Subject(Row("a"))})
    assert test.verdict == verdict


def test_claim_about_a_row_that_validation_has_not_settled_is_not_judged(store: Store) -> None:
    shown = by_label(store, "methods")
    keys = {label: subject.row.key for label, subject in shown.items()}
    assert not shown["DAE, L2"].settled, "one of seven weights is done"
    (test,) = verdicts.tested([beats(keys["DAE, L2"], keys["AE, no embedding loss"], "", "")], by_key(shown))
    assert test.verdict == verdicts.UNCHOSEN
    assert test.estimate is not None
    at_the_studys = keys["DAE, L2, α = 1, the study's"]
    (test,) = verdicts.tested([beats(at_the_studys, keys["AE, no embedding loss"], "", "")], by_key(shown))
    assert test.verdict == verdicts.HOLDS


def test_claim_of_rows_that_are_missing_or_not_there_says_so(store: Store) -> None:
    shown = by_label(store, "methods")
    keys = {label: subject.row.key for label, subject in shown.items()}
    claims = [beats(keys["DAE, NCS"], keys["DAE, L1"], "", ""),
              beats(keys["DAE, no embedding loss"], "nothing of the kind", "", "")]  # fmt: skip
    assert [test.verdict for test in verdicts.tested(claims, by_key(shown))] == [verdicts.UNMEASURED, verdicts.NO_ROW]


def test_claim_about_a_floor_names_it_by_its_method(store: Store) -> None:
    shown = by_label(store, "denoising")
    dae = shown["DAE, no embedding loss"].row.key
    (test,) = verdicts.tested([beats(dae, "random", "", "")], by_key(shown))
    assert test.verdict == verdicts.HOLDS


def test_peak_of_test_accuracies_is_chosen_on_validation_and_of_other_scores_by_the_other_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = {
        "validation_accuracy": {"a": {0: 50.0, 1: 50.0}, "b": {0: 60.0, 1: 60.0}, "end": {0: 40.0, 1: 40.0}},
        "test_accuracy": {"a": {0: 70.0, 1: 70.0}, "b": {0: 65.0, 1: 65.0}, "end": {0: 60.0, 1: 60.0}},
        "kmeans_inertia": {"a": {0: 9.0, 1: 1.0}, "b": {0: 2.0, 1: 8.0}, "end": {0: 0.0, 1: 0.0}},
    }
    monkeypatch.setattr(verdicts, "by_seed", lambda keys, _shown, score: {
        seed: {key: scores[score][key][seed] for key in keys} for seed in (0, 1)})  # fmt: skip
    shown = {key: Subject(Row(key)) for key in ("a", "b", "end")}
    asked: list[tuple[str, float]] = []

    def paired(weighted: Sequence[tuple[Subject, float]], _score: str) -> None:
        asked.extend((subject.row.key, weight) for subject, weight in weighted)

    monkeypatch.setattr(verdicts, "paired", paired)
    claim = Claim(words="", source="", best=["a", "b"], weights={BEST: 1.0, "end": -1.0})
    verdicts.tested([claim], shown)
    assert asked == [("b", 1.0), ("end", -1.0)], "though a is better on test"
    (test,) = verdicts.tested([replace(claim, score="kmeans_inertia")], shown)
    assert test.estimate is not None
    assert test.estimate.mean == 1.5, "seed 0 looks where seed 1 peaks, and the other way round: 2 and 1"
    assert test.estimate.p is None


def test_claim_about_the_shape_of_a_curve_is_computed_for_each_seed(store: Store) -> None:
    shown = by_label(store, "denoising")
    rows = [subject for subject in shown.values() if not subject.floor]
    claim = Claim(words="", source="", rows=[subject.row.key for subject in rows],
                  value=lambda scores: max(scores.values()) - min(scores.values()))  # fmt: skip
    (test,) = verdicts.tested([claim], by_key(shown))
    dae, ae = (subject.by_seed("test_accuracy") for subject in rows)
    assert test.estimate == replace(over_seeds([abs(dae[seed] - ae[seed]) for seed in SEEDS]), p=None)


def test_published_number_agrees_differs_or_is_not_measured_and_never_compares_with_a_reduced_study() -> None:
    measured = Estimate(mean=67, low=66, high=68, seeds=3)
    assert verdicts.compared(67.1, measured, reduced=False) == verdicts.AGREES
    assert verdicts.compared(69.7, measured, reduced=False) == verdicts.DIFFERS
    assert verdicts.compared(69.7, None, reduced=False) == verdicts.UNMEASURED
    assert verdicts.compared(67.1, measured, reduced=False, settled=False) == verdicts.UNCHOSEN
    alone = Estimate(mean=67, low=66, high=68, seeds=1)
    assert verdicts.compared(69.7, alone, reduced=False) == "differs (one seed)"
    assert verdicts.compared(67.1, measured, reduced=True) == verdicts.REDUCED
