"""Experiments: what every one of them has to be, and how the command line chooses and changes their cells."""

from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, experiments
from dae_ssl.config import ConfigError
from jobs import experiment


@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_asks_a_question_of_rows_that_differ(name: str) -> None:
    loaded = experiments.load(name)
    assert "?" in loaded.question
    assert len({row.label for row in loaded.rows}) == len(loaded.rows) > 1
    cells = [config.cell_key(cell) for row in loaded.cells().values() for cell in row]
    assert len(set(cells)) == len(cells) == len(loaded.rows) * len(experiments.SEEDS)
    assert all(row.published is None or 0 < row.published < 100 for row in loaded.rows)


def test_cells_of_a_row_differ_in_their_seed_and_the_floors_are_shared() -> None:
    asked = experiment.asked(["experiment=tour", "seeds=[3,5]"])
    for row in asked.rows.values():
        assert [cell.seed for cell in row] == [3, 5]
        assert config.title(row[0]).replace("seed=3", "seed=5") == config.title(row[1])
    assert sorted(cell.method.name for cell in asked.floors) == ["pixels", "random", "random"], "pixels have no seed"
    assert experiment.asked(["experiment=tour", "floors=false"]).floors == []


def test_changes_reach_every_cell_and_come_after_a_scale() -> None:
    asked = experiment.asked(["experiment=table2", "+scale=demo", "optimisation.epochs=2", "kmeans.restarts=1"])
    for cell in asked.cells:
        assert (cell.optimisation.epochs, cell.optimisation.batch_size, cell.kmeans.restarts) == (2, 64, 1)
        assert cell.data.pretrain == "digits"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "experiment is not given: choose table2, tour"),
        (["experiment=tuor"], "experiment='tuor': choose table2, tour"),
        (["experiment=tour", "profile=nope"], "profile='nope': choose dev, gpu4, local"),
        (["experiment=tour", "seed=4"], "unknown setting seed: did you mean seeds?"),
        (["experiment=tour", "seeds=[]"], "seeds=[]: choose whole numbers"),
        (["experiment=tour", "floors=7"], "floors=7: choose true or false"),
        (["experiment=tour", "+scale=none"], "scale='none': choose demo"),
        (["experiment=tour", "optimisation.epochs=1,2"], "optimisation.epochs=1,2 is no value for all cells alike"),
        (["experiment=tour", "optimisation.epochs=two"], "optimisation.epochs='two': choose a whole number"),
        (["experiment=tour", "optimisation.epoch=2"], "did you mean optimisation.epochs?"),
        (["experiment=tour", "views=[1]"], "views=[1]: choose settings below it"),
        (["experiment=tour", "tour"], "'tour' is not understood"),
    ],
)
def test_what_cannot_be_asked_is_one_line_that_names_the_choices(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        experiment.asked(arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("partiton: gpu", "did you mean partition?"),
        ("stages: {probe: {packing: 2, gpus_per_node: 2}}", "stages.probe.packing=2: choose 1"),
        ("stages: {pretrain: {minutes: 1}}", "stages.pretrain.minutes=1: choose more than signal_seconds, 90 s"),
        ("environment: [A]", "environment='A': choose NAME=VALUE"),
        ("tracking_uri: http://me:secret@server", "an address without credentials"),
        ("- 1", "write settings, as in partition: gpu"),
        ("a: [", "while parsing"),
    ],
)
def test_profile_that_cannot_be_is_one_line_that_names_it(written: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(written)
    with pytest.raises(ConfigError) as refused:
        experiment.profile(str(tmp_path / "mine.yaml"))
    assert said in str(refused.value)
    assert "mine" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", sorted(experiment.PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_of_the_project_can_be_read(path: Path) -> None:
    assert experiment.profile(path.stem).name == path.stem
