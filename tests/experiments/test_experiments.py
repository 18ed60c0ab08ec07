"""Experiments: what every one of them has to be, and how the command line chooses and changes their cells."""

import csv
import math
import re
import shutil
import sys
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, experiments
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.config import ConfigError
from dae_ssl.experiments.augmentation_strength import STRENGTHS
from dae_ssl.experiments.form import BEST, FLOORS, SCORES, extended
from dae_ssl.files import StoreError
from jobs import plan, profiles
from tests.commanded import ask, run

NAMES = experiments.names()


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_asks_a_question_of_rows_that_differ(name: str) -> None:
    loaded = experiments.load(name)
    assert "?" in loaded.question.splitlines()[0]
    for section in loaded.sections([0, 1]):
        labels = [row.label for row in section.shown]
        assert len(set(labels)) == len(labels) > 1
        keys = {row.key for row in (*section.shown, *section.cells)}
        assert len(keys) == len({*section.shown, *section.cells})
        assert all(len(of_row) == 2 for of_row in section.cells.values())
        for row, (one, other) in section.cells.items():
            assert config.title(one).replace("seed=0", "seed=1") == config.title(other), row.label


@pytest.mark.parametrize("name", NAMES)
def test_every_exhibit_and_claim_of_an_experiment_speaks_of_its_rows(name: str) -> None:
    for section in experiments.load(name).sections():
        known = {row.key for row in section.shown} | set(FLOORS)
        at = {place for row in section.shown for place in row.at}
        names = [exhibit.name for exhibit in section.exhibits]
        assert len(set(names)) == len(names) > 0
        for exhibit in section.exhibits:
            assert set(exhibit.named_places()) <= at, exhibit.name
            assert set(exhibit.named_scores()) <= set(SCORES), exhibit.name
        for claim in section.claims:
            assert set(claim.named_rows()) <= known, claim.words
            assert (claim.value is None) == bool(claim.weights), claim.words
            assert bool(claim.best) == (BEST in claim.weights), claim.words
            assert claim.above < claim.below


def test_the_study_has_63_pretraining_cells_a_seed_in_its_own_figures_and_shares_the_rest() -> None:
    study = experiments.load("study")
    seen: dict[str, int] = {}
    trained: set[str] = set()
    for section in study.sections([7]):
        trained |= {config.key(cell, "pretrain") for cell in section.every() if cell.method.trains}
        seen[section.name] = len(trained)
    assert seen["denoising"] == seen["reconstructions"] == 2
    assert seen["embedding_loss"] == seen["pareto"] == seen["clustering"] == 44
    assert seen["methods"] == 45
    assert seen["augmentation_strength"] == seen["training_length"] == 63
    assert seen["trained_to_the_end"] == 63 + 14
    assert study.seeds == (0, 1, 2)
    assert experiments.load("methods").seeds == (0,)


def test_study_computes_table_2_first_then_figures_10_and_9_then_the_rest_seed_by_seed() -> None:
    study = experiments.load("study")
    sections = {section.name: section for section in study.sections([0, 1])}
    order = [config.cell_key(cell) for cell in study.in_order(sections.values())]
    assert len(set(order)) == len(order)
    every = [cell for section in sections.values() for cell in section.every()]
    of_first = {config.cell_key(cell) for cell in every if cell.seed == 0}
    assert set(order[: len(of_first)]) == of_first, "another seed comes after all of the first"

    def shown(name: str) -> set[str]:
        section = sections[name]
        return {config.cell_key(section.cells[row][0]) for row in section.shown if not row.among}

    blocks = [shown(name) for name in ("methods", "training_length", "augmentation_strength", "embedding_loss")]
    assert set(order[:9]) == blocks[0], "the nine rows"
    ends = [max(order.index(key) for key in block) for block in blocks]
    assert ends == sorted(ends)
    assert ends[3] + 1 == len(set().union(*blocks)), "nothing else comes between"


def test_floors_come_right_before_the_first_cell_that_needs_them() -> None:
    asked = ask(["study", "--seeds=0,1"])
    order = [(cell.method.name, cell.seed, cell.probe.epochs) for cell in asked.cells]
    assert order[:3] == [("random", 0, 200), ("pixels", 0, 200), ("simclr", 0, 200)]
    later = [place for place, (method, seed, _) in enumerate(order) if (method, seed) == ("random", 1)]
    assert order[min(later) - 1][1] == 0
    assert order[min(later) + 1][1] == 1
    assert len(asked.cells) == len({config.cell_key(cell) for cell in asked.cells})
    assert {config.cell_key(floor) for floor in asked.floors} < {config.cell_key(cell) for cell in asked.cells}


def test_cells_of_a_row_differ_in_their_seed_and_the_floors_are_shared() -> None:
    asked = ask(["tour", "--seeds=3,5"])
    (section,) = asked.sections
    assert all([cell.seed for cell in of_row] == [3, 5] for of_row in section.cells.values())
    assert sorted(cell.method.name for cell in asked.floors) == ["pixels", "random", "random"], "pixels have no seed"
    assert ask(["tour", "--no-floors"]).floors == []


def test_changes_reach_every_cell_and_come_after_a_scale() -> None:
    asked = ask(["methods", "--scale=demo", "optimisation.epochs=2", "kmeans.restarts=1"])
    for cell in asked.cells:
        assert (cell.optimisation.epochs, cell.optimisation.batch_size, cell.kmeans.restarts) == (2, 64, 1)
        assert cell.data.pretrain == "photographs"


def test_nothing_overrides_what_makes_a_row_the_row_it_is() -> None:
    asked = ask(["augmentation_strength", "views.jitter=2", "views.flip=0.5"])
    (section,) = asked.sections
    assert {cell.views.jitter for cell in section.every()} == set(STRENGTHS)
    assert {cell.views.flip for cell in section.every()} == {0.5}


@pytest.mark.parametrize(
    ("arguments", "reduced"),
    [
        ([], False),
        (["precision=bf16"], False),
        (["precision=tf32", "--seeds=0,1", "--no-floors"], False),
        (["optimisation.epochs=300"], False),
        (["optimisation.epochs=2"], True),
        (["optimisation.schedule=constant"], True),
        (["data.pretrain_images=4000"], True),
        (["data.evaluate=digits"], True),
        (["views.crop=24"], True),
        (["networks.embedding_size=256"], True),
        (["probe.epochs=60"], True),
        (["kmeans.restarts=2"], True),
        (["--scale=small"], True),
        (["--scale=small", "precision=bf16"], True),
        (["probe.epochs=60", "precision=tf32"], True),
    ],
)
def test_another_study_is_one_that_is_changed_in_more_than_its_arithmetic(arguments: list[str], reduced: bool) -> None:
    sections = ask(["study", *arguments]).sections
    assert {section.reduced for section in sections} == {reduced}


def test_changed_cells_are_called_by_scale_hash_and_precision_in_this_order() -> None:
    def called(*arguments: str) -> str:
        return ask(["denoising", *arguments]).variant

    assert called() == called("precision=fp32") == called("--seeds=4", "--no-floors") == ""
    assert called("precision=bf16") == "bf16"
    assert called("--scale=small", "precision=bf16") == called("precision=bf16", "--scale=small") == "small-bf16"
    assert called("optimisation.epochs=2") == "2c65ccda", "as it was called before a precision stood beside"
    assert called("optimisation.epochs=2", "precision=tf32", "--scale=small") == "small-2c65ccda-tf32"


def test_precisions_side_by_side_are_cells_of_the_study_that_differ_in_nothing_else() -> None:
    (section,) = ask(["precision", "precision=bf16"]).sections
    by_method: dict[str, list[config.Cell]] = {}
    for row, (cell,) in section.cells.items():
        assert cell.precision == row.at["precision"], "what makes a row the row it is"
        by_method.setdefault(str(row.at["method"]), []).append(cell)
    for of_method in by_method.values():
        assert [cell.precision for cell in of_method] == ["fp32", "tf32", "bf16"]
        for other in of_method[1:]:
            assert [name for name, *_ in config.differences(of_method[0], other, "pretrain")] == ["precision"]
    for precision in ("fp32", "bf16"):
        study = {config.cell_key(cell) for cell in ask(["study", f"precision={precision}"]).cells}
        own = [config.cell_key(cell) for cell in section.every() if cell.precision == precision]
        assert set(own) < study, "computed once for both"


def test_lengths_batches_and_changes_of_an_experiment_follow_its_scale() -> None:
    (lengths,) = ask(["trained_to_the_end", "--scale=small"]).sections
    assert sorted({cell.optimisation.epochs for cell in lengths.every()}) == [1, 2, 3, 4, 5]
    (batches,) = ask(["batch_size", "--scale=small"]).sections
    assert sorted({cell.optimisation.batch_size for cell in batches.every()}) == [4, 8, 16, 32, 64, 128]
    (code,) = ask(["as_published_code", "--scale=small"]).sections
    assert {cell.optimisation.epochs for cell in code.every()} == {3, 5}


def test_batch_sizes_leave_the_learning_rate_or_scale_it_linearly_or_by_its_square_root() -> None:
    (section,) = experiments.load("batch_size").sections()
    for row, (cell,) in section.cells.items():
        factor = cell.optimisation.batch_size / 512
        scaled = {"rate held": 1, "rate scaled linearly": factor, "rate scaled by square root": factor**0.5}
        assert cell.optimisation.learning_rate == pytest.approx(1e-4 * scaled[str(row.at["rule"])], rel=1e-5)


@pytest.mark.parametrize(("batch", "sizes"), [(2, [2, 4]), (3, [2, 3, 6]), (8, [2, 4, 8, 16])])
def test_small_batches_leave_out_factors_that_give_the_same_size(batch: int, sizes: list[int]) -> None:
    (section,) = experiments.load("batch_size").sections(changes={"optimisation": {"batch_size": batch}})
    assert sorted({cell.optimisation.batch_size for cell in section.every()}) == sizes
    assert len(section.claims) == (3 if batch > 2 else 0), "a size loses nothing against itself"


def test_plan_of_one_experiment_needs_no_other_to_be_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"features\.epoch=100"):
        ask(["tour", "features.epoch=100"])
    assert run("plan", ["methods", "--seeds=0", "features.epoch=100", f"--store={tmp_path / 'store'}"]) == 0
    assert "shared" in capsys.readouterr().out


# ---------------------------------------------------------------------------------- what validation decides


@pytest.mark.parametrize(
    ("accuracy", "grown"),
    [
        ({}, [0.1, 1, 10]),
        ({0.1: 0.5, 1: 0.6, 10: 0.5}, [0.1, 1, 10]),
        ({0.1: 0.5, 1: 0.6, 10: 0.7}, [0.1, 1, 10, 100]),
        ({0.1: 0.7, 1: 0.6, 10: 0.5}, [0.01, 0.1, 1, 10]),
        ({0.1: 0.7, 1: 0.6}, [0.1, 1, 10]),
        ({0.1: 0.5, 1: 0.6, 10: 0.7, 100: 0.65}, [0.1, 1, 10, 100]),
        ({0.1: 0.5, 1: 0.6, 10: 0.7, 100: 0.8, 1000: 0.9}, [0.1, 1, 10, 100, 1000]),
        ({0.1: 0.7, 1: 0.6, 10: 0.5, 0.01: 0.8, 0.001: 0.9}, [0.001, 0.01, 0.1, 1, 10]),
    ],
)
def test_grid_goes_on_past_its_edge_while_the_best_lies_there(accuracy: dict[float, float], grown: list[float]) -> None:
    assert extended([0.1, 1, 10], lambda alpha: {0: accuracy[alpha]} if alpha in accuracy else {}) == grown


def test_grid_is_judged_over_the_seeds_that_all_of_it_has() -> None:
    known = {0.1: {0: 0.5, 1: 0.9}, 1: {0: 0.6}, 10: {0: 0.7, 2: 0.1}}
    assert extended([0.1, 1, 10], lambda alpha: known.get(alpha, {})) == [0.1, 1, 10, 100]
    assert extended([0.1, 1, 10], lambda alpha: known.get(alpha, {}) if alpha != 1 else {1: 0.6}) == [0.1, 1, 10]


def test_grown_grid_names_its_weights_as_people_would() -> None:
    accuracy = {1e-4: 0.7, 1e-3: 0.6}
    assert extended([1e-4, 1e-3], lambda alpha: {0: accuracy[alpha]} if alpha in accuracy else {})[0] == 1e-5


def test_embedding_loss_asks_for_further_cells_once_the_best_alpha_lies_on_the_edge() -> None:
    def validation(cell: config.Cell) -> float:
        own = config.settings(cell.method)
        rises = (own["name"], own["embedding"]) == ("dae", "l1") and own["alpha"] > 0
        return 0.6 + 0.01 * (math.log10(own["alpha"]) if rises else -abs(math.log10(own["alpha"] or 1)))

    usual = experiments.load("embedding_loss").sections([0])[0]
    grown = experiments.load("embedding_loss").sections([0], validation=validation)[0]
    known = {row.label for row in usual.shown}
    assert [row.label for row in grown.shown if row.label not in known] == ["DAE, L1, α = 1000", "DAE, L1, α = 10000"]


# ---------------------------------------------------------------------------------- one file is an experiment


MINE = '''"""Is a wide crop better than a narrow one?"""

from dae_ssl.experiments.form import Curves, Experiment, Numbers, Row, beats

BASE = {"data": {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6}, "kmeans": {"clusters": 3},
        "optimisation": {"epochs": 1, "batch_size": 8, "checkpoints": []}, "probe": {"epochs": 3}}
ROWS = [Row(f"crop {crop}", {"method": {"name": "ae"}, "views": {"crop": crop}}, at={"crop": crop, "method": "AE"},
            key=f"crop-{crop}") for crop in (16, 28)]
EXHIBITS = [Curves(name="crop", title="By crop", x="crop", x_label="pixels", score="test_accuracy", lines="method"),
            Numbers(name="numbers", title="Numbers")]
CLAIMS = [beats("crop-28", "crop-16", "Wide is better", "me")]
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS, base=BASE)
'''


@pytest.mark.slow
def test_experiment_is_added_by_one_file(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    shutil.copytree(images, tmp_path / "store")
    arguments = ["mine", f"--store={tmp_path / 'store'}"]
    assert "mine" in experiments.names()
    run("plan", arguments)
    assert "4 cells (2 of them floors)" in capsys.readouterr().out
    assert run("submit", arguments) == 0
    assert run("status", arguments) == 0
    run("report", arguments)
    folder = tmp_path / "store" / "experiments" / "mine"
    page = (folder / "report.html").read_text()
    assert "Is a wide crop better than a narrow one?" in page
    assert "not yet measured" not in page
    lines = list(csv.DictReader((folder / "mine-crop.csv").read_text().splitlines()))
    assert [float(line["crop"]) for line in lines if line["crop"]] == [16, 28]
    assert (folder / "mine-crop.svg").read_text().startswith("<?xml")
    sys.modules.pop("dae_ssl.experiments.mine")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("EXPERIMENT =", "EXPERIMNET =", "experiment mine: EXPERIMENT is missing: end its file with EXPERIMENT ="),
        ("Experiment(q", "dict(q", "experiment mine: EXPERIMENT is of type dict: end its file with EXPERIMENT"),
        ("rows=ROWS", "rows=[]", "experiment mine has no rows: give it at least one"),
        ("rows=ROWS", "rows=ROWS[0]", "choose a list of Row, or a function that returns"),
        ("rows=ROWS", "rows=lambda base, validation: 7", "experiment mine: rows=7: choose a list of Row, or a fun"),
        ("claims=CLAIMS", "claims=EXHIBITS", "choose a list of Claim, or a function that"),
        ("base=BASE", "base=BASE, first=['tour']", "experiment mine: first='tour': choose one of its parts: "),
        ('"""Is a wide crop better than a narrow one?"""', "", "experiment mine has no question: begin its file with"),
        ('f"crop {crop}"', '"crop"', "experiment mine: label of a row='crop': choose another one, since this one"),
        ('f"crop-{crop}"', '"crop"', "experiment mine: key of a row='crop': choose another one, since this one"),
        ('f"crop-{crop}"', '"random" * (crop == 16)', "experiment mine: key of a row='random': choose another one"),
        ('name="numbers"', 'name="crop"', "experiment mine: name of an exhibit='crop': choose another one"),
        ('score="test_accuracy"', 'score="test_acuracy"', "experiment mine: score='test_acuracy': choose test_acc"),
        ('lines="method"', 'lines="methods"', "exhibit crop='methods': choose a name that rows have in `at`, one of"),
        (
            'beats("crop-28"',
            'beats("raw pixels"',
            "row of a claim='raw pixels': choose one of the rows' keys: crop",
        ),
        ('"views": {"crop"', '"views": {"crap"', "unknown setting views.crap: did you mean views.crop?"),
    ],
)
def test_mistake_in_an_experiments_file_is_one_line_as_soon_as_it_is_asked_for(
    right: str, wrong: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert right in MINE
    (tmp_path / "mine.py").write_text(MINE.replace(right, wrong))
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    try:
        with pytest.raises(ConfigError) as refused:
            ask(["mine"])
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
    finally:
        sys.modules.pop("dae_ssl.experiments.mine")


# ---------------------------------------------------------------------------------- the command line


def test_plan_without_a_cluster_in_reach_says_so_and_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object) -> None:
        raise SlurmError("squeue: cannot find its cluster")

    monkeypatch.setattr(plan, "queued", unreachable)
    run("plan", ["study", "--profile=gpu4", f"--store={tmp_path}"])
    printed = capsys.readouterr().out
    assert "SLURM cannot be asked" in printed
    assert re.search(r"^training_length +2 +2 +0 +63 ", printed, re.MULTILINE)
    assert f"not prepared in {tmp_path}: cifar10, cifar100" in printed
    assert "with this profile: unknown" in printed


def test_report_of_a_store_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*: name the store"):
        run("report", ["tour", f"--store={tmp_path / 'typo'}"])
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the name of an experiment is missing: choose as_published_code, augmentation_strength"),
        (["tuor"], "unknown experiment 'tuor': did you mean tour? choose as_published_code, augmentation_strength"),
        (["tour", "--profile=nope"], "--profile='nope': choose dev, gpu4, gpu4-packed, local"),
        (["tour", "seed=4"], "seed is a setting of a single cell: write --seeds 0,1"),
        (["tour", "--seeds="], "--seeds='': choose seeds, at least 0"),
        (["tour", "--seeds", "-1,2"], "--seeds='-1,2': choose seeds, at least 0"),
        (["tour", "--seeds=1,1"], "--seeds='1,1': choose different values, as in 0,1"),
        (["tour", "--seeds"], "--seeds needs a value: write --seeds N[,N]"),
        (["tour", "--no-floors=7"], "--no-floors=7: --no-floors takes no value"),
        (["tour", "floor=7"], "unknown setting floor: choose from data, views"),
        (["tour", "--profle=gpu4"], "unknown flag --profle: did you mean --profile? choose from --archive"),
        (["tour", "--profile=gpu5"], "--profile='gpu5': did you mean gpu4? choose dev"),
        (["tour", "-x"], "unknown flag -x: choose from --archive"),
        (["tour", "--scale=none"], "--scale='none': choose demo, miniature, short, small"),
        (["tour", "--scale=smal"], "--scale='smal': did you mean small? choose demo, miniature, short, small"),
        (["tour", "views=1", "views.crop=2"], "views.crop=2: give views either a value or settings"),
        (["tour", "optimisation.epochs=1,2"], "optimisation.epochs=1,2 has more than one value: give one"),
        (["tour", "optimisation.epochs=two"], "optimisation.epochs='two': choose a whole number"),
        (["tour", "optimisation.epoch=2"], "did you mean optimisation.epochs?"),
        (["tour", "views=[1]"], "views=[1]: choose settings below it"),
        (["tour", "tour"], "'tour' is one word too many after 'tour': name only one experiment"),
        (["tour", "--", "--x"], "'--x' is one word too many after 'tour'"),
        (["tour", "views.crop=-1"], "views.crop=-1: choose"),
    ],
)
def test_what_cannot_be_asked_is_one_line_that_names_the_choices(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ask(arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("partiton: gpu", "did you mean partition?"),
        ("stages: {probe: {packing: 2, gpus_per_machine: 2}}", "stages.probe.packing=2: choose 1"),
        ("stages: {pretrain: {minutes: 1}}", "stages.pretrain.minutes=1: choose more than signal_seconds, 90 s"),
        ("environment: [A]", "environment='A': choose NAME=VALUE"),
        ("tracking_uri: http://me:secret@server", "an address without credentials"),
        ("- 1", "has no settings: write lines such as partition: gpu"),
        ("a: [", "while parsing"),
    ],
)
def test_profile_that_cannot_be_is_one_line_that_names_it(written: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(written)
    with pytest.raises(ConfigError) as refused:
        profiles.profile(str(tmp_path / "mine.yaml"))
    assert said in str(refused.value)
    assert "mine" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_local_profile_is_the_one_that_says_no_more_than_that_it_is_local(tmp_path: Path) -> None:
    (tmp_path / "local.yaml").write_text("launcher: local\nstages: {pretrain: {ranks_per_machine: 1}}\n")
    assert profiles.profile("local") == profiles.profile(str(tmp_path / "local.yaml"))


@pytest.mark.parametrize("path", sorted(profiles.PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_of_the_project_can_be_read(path: Path) -> None:
    assert profiles.profile(path.stem).name == path.stem
