"""What experiments are written with: rows joined by keys, exhibits that name what they show, one value at the end."""

from dataclasses import fields
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import ConfigError
from dae_ssl.experiments import form
from dae_ssl.experiments.form import (
    Curves,
    Effects,
    Exhibit,
    Experiment,
    Numbers,
    Pictures,
    Plane,
    ProbeCurves,
    Row,
    Strengths,
    beats,
    merged,
)

NAMED: dict[str, Any] = {"name": "it", "title": "It"}


def test_row_is_known_by_its_label_until_it_has_a_key() -> None:
    assert (Row("DAE, L2").key, Row("DAE, L2").mark) == ("DAE, L2", "")
    assert (Row("DAE, L2", key="dae-l2").key, Row("DAE, L2", mark="L2").mark) == ("dae-l2", "L2")


def test_rows_can_be_called_anything_without_a_change_of_what_is_claimed_of_them() -> None:
    def experiment(*labels: str) -> Experiment:
        rows = [Row(label, {"method": name}, key=name) for label, name in zip(labels, ("dae", "ae"), strict=True)]
        return Experiment(question="Which?", rows=rows, claims=[beats("dae", "ae", "It is", "here")], name="which")

    (plain,), (renamed,) = experiment("DAE", "AE").sections(), experiment("ours", "theirs").sections()
    assert plain.claims == renamed.claims
    by_key = [{row.key: [config.cell_key(cell) for cell in of_row] for row, of_row in section.cells.items()}
              for section in (plain, renamed)]  # fmt: skip
    assert by_key[0] == by_key[1]


@pytest.mark.parametrize(
    ("exhibit", "scores", "places"),
    [
        (Numbers(**NAMED, scores=("kmeans_nmi", "kmeans_ari")), ("kmeans_nmi", "kmeans_ari"), ()),
        (Curves(**NAMED, x="alpha", x_label="α", score="kmeans_nmi", lines="loss"), ("kmeans_nmi",), ("alpha", "loss")),
        (
            Curves(**NAMED, x="alpha", x_label="α", score="kmeans_nmi", lines="loss", panels="kind"),
            ("kmeans_nmi",),
            ("alpha", "loss", "kind"),
        ),
        (
            Plane(**NAMED, x="final_embedding", y="final_reconstruction", colour="kmeans_nmi", lines="loss"),
            ("final_embedding", "final_reconstruction", "kmeans_nmi"),
            ("loss",),
        ),
        (Effects(**NAMED, of="change", within="method", start="none"), ("test_accuracy",), ("change", "method")),
        (ProbeCurves(**NAMED), (), ()),
        (Pictures(**NAMED), (), ()),
        (Strengths(**NAMED), (), ()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exhibit) else "",
)
def test_exhibit_names_the_scores_and_places_that_it_needs(
    exhibit: Exhibit, scores: tuple[str, ...], places: tuple[str, ...]
) -> None:
    assert (exhibit.named_scores(), exhibit.named_places()) == (scores, places)


def test_experiment_that_asks_for_nothing_else_shows_test_accuracy() -> None:
    (section,) = Experiment(question="Which?", rows=[Row("AE", {"method": "ae"})]).sections()
    (exhibit,) = section.exhibits
    assert "test_accuracy" in exhibit.named_scores()
    assert [cell.seed for cell in section.every()] == [0]


def test_rows_are_made_of_the_base_and_of_what_validation_knows() -> None:
    def rows(base: config.Cell, validation: form.Validation) -> list[Row]:
        accuracy = validation({"method": "ae"})
        return [Row(f"{base.optimisation.epochs} epochs, {accuracy}", {"method": "ae"})]

    experiment = Experiment(question="How long?", rows=rows, base={"optimisation": {"epochs": 7}}, seeds=(1, 2))
    (section,) = experiment.sections(validation=lambda cell: 0.5 if cell.seed == 2 else None)
    assert [row.label for row in section.shown] == ["7 epochs, {2: 0.5}"]
    (changed,) = experiment.sections(changes={"optimisation": {"epochs": 3}})
    assert ([row.label for row in changed.shown], changed.reduced) == (["3 epochs, {}"], True)


def test_experiment_is_built_by_name_only_so_that_no_field_is_taken_for_another() -> None:
    assert all(field.kw_only for field in fields(Experiment))


def test_two_rows_of_one_key_are_refused_even_where_one_only_stands_for_choice() -> None:
    rows = [Row("DAE", among=(Row("DAE, 1", {"method": "dae"}, key="DAE"), Row("DAE, 2", {"method": "ae"})))]
    with pytest.raises(ConfigError, match="key of a row='DAE': choose another one, since this one occurs twice"):
        Experiment(question="Which?", rows=rows).sections()


def test_settings_are_merged_leaf_by_leaf_and_the_first_stay_as_they_are() -> None:
    settings = {"views": {"crop": 28, "flip": 0.5}, "seed": 1}
    assert merged(settings, {"views": {"crop": 24}, "precision": "bf16"}) == {
        "views": {"crop": 24, "flip": 0.5},
        "seed": 1,
        "precision": "bf16",
    }
    assert settings == {"views": {"crop": 28, "flip": 0.5}, "seed": 1}
