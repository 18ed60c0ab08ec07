"""The page of a cell: whole by itself, the numbers of the records, nothing missing left unsaid."""

import base64
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, store
from dae_ssl.compute.cells import floors
from dae_ssl.compute.log import Log
from dae_ssl.config import Cell
from dae_ssl.report.command import run_again
from dae_ssl.report.figures import views_at
from dae_ssl.report.page import write_cell_page
from dae_ssl.report.significance import mcnemar, told_p
from dae_ssl.store import Store
from dae_ssl.training.monitor import pictures
from tests.commanded import cell_of
from tests.forged import Page, a_cell, forge, forge_all, forge_pretrain


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Cell, Path]:
    place, cell = Store(tmp_path_factory.mktemp("store")), a_cell()
    return place, cell, write_cell_page(cell, place, forge_all(place, cell))


def record(place: Store, cell: Cell, stage: str) -> dict[str, Any]:
    return place.node(stage, config.key(cell, stage)).verify()


# ---------------------------------------------------------------------------------- the page


def test_page_needs_nothing_beside_it(done: tuple[Store, Cell, Path]) -> None:
    page = Page(done[2])
    assert len(page.addresses) == 5
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.raw.startswith("<!DOCTYPE html>")
    for outside in ("<script", "<link", "@import", "url(", "http://", "https://", "file:"):
        assert outside not in page.raw.lower()


def test_every_embedded_picture_is_a_file_beside_the_page(done: tuple[Store, Cell, Path]) -> None:
    embedded = [base64.b64decode(address.partition(",")[2]) for address in Page(done[2]).addresses]
    files = {path.name: path.read_bytes() for path in done[2].parent.glob("*.png")}
    assert sorted(files) == [
        "probe.png", "reconstructions-by-epoch.png", "reconstructions.png", "training.png", "views.png",
    ]  # fmt: skip
    assert sorted(files.values()) == sorted(embedded)
    assert all(content.startswith(b"\x89PNG") for content in embedded)


def test_nothing_half_written_stays_beside_the_page(done: tuple[Store, Cell, Path]) -> None:
    assert [path.name for path in done[2].parent.iterdir() if path.suffix not in (".png", ".html")] == []


def test_numbers_of_the_page_are_those_of_the_records(done: tuple[Store, Cell, Path]) -> None:
    place, cell, path = done
    page, random, pixels = Page(path), *floors(cell).values()
    for name, words in {
        "test_accuracy": "Test, the study's probe",
        "logistic_test_accuracy": "Test, logistic regression (L-BFGS)",
        "validation_accuracy": "Validation, the study's probe",
        "logistic_validation_accuracy": "Validation, logistic regression (L-BFGS)",
    }.items():
        mine, *theirs = (record(place, one, "probe")["figures"][name] for one in (cell, random, pixels))
        shown = [text.split()[0] for text in page.row(words)]
        expected = [f"{100 * mine:.2f}"]
        for share in theirs:
            expected += [f"{100 * share:.2f}", f"{100 * (mine - share):+.2f}".replace("-", "−")]
        assert shown == expected
    for name, words in {"inertia": "Inertia per point", "nmi": "Normalised mutual information"}.items():
        for prefix, kind in {"kmeans_": "plain", "kmeans_standardised_": "standardised"}.items():
            shown = page.row(f"{words}, {kind}")
            for place_in_row, one in ((0, cell), (1, random), (3, pixels)):
                assert shown[place_in_row] == f"{record(place, one, 'kmeans')['figures'][prefix + name]:.4f}"


def test_accuracy_of_each_probe_seed_is_shown(done: tuple[Store, Cell, Path]) -> None:
    place, cell, path = done
    with np.load(place.node("probe", config.key(cell, "probe")).product(store.CORRECT)) as content:
        for seed, correct in zip(cell.probe.seeds, content["probe"], strict=True):
            assert Page(path).row(f"– with probe seed {seed}")[0] == f"{100 * correct.mean():.2f}"


def test_differences_are_tested_seed_by_seed_on_the_same_images(done: tuple[Store, Cell, Path]) -> None:
    place, cell, path = done
    right = []
    for one in (cell, floors(cell)["raw pixels"]):
        with np.load(place.node("probe", config.key(one, "probe")).product(store.CORRECT)) as content:
            right.append(content["probe"])
    p_values = [mcnemar(mine, theirs) for mine, theirs in zip(*right, strict=True)]
    page = Page(path)
    assert f"against raw pixels ({100 * right[1].mean():.2f} %, {told_p(p_values)})" in page.text
    for seed, p in zip(cell.probe.seeds, p_values, strict=True):
        assert told_p([p]) in page.row(f"– with probe seed {seed}")[4]


def test_missing_floor_is_named_as_missing(tmp_path: Path) -> None:
    place, cell = Store(tmp_path), a_cell()
    forge(place, cell, right=0.9, seed=1)
    beside = floors(cell)
    forge(place, beside["raw pixels"], right=0.6, seed=2)
    page = Page(write_cell_page(cell, place, beside))
    assert "Missing: pretrain, features, probe, kmeans of random encoder." in page.text
    assert "the floor “random encoder” is missing" in page.text
    assert "Missing: the probe of random encoder has not begun." in page.text
    shown = page.row("Test, the study's probe")
    assert shown[1].strip() == "missing"
    assert shown[2] == "–"
    assert "raw pixels is missing" not in page.text


def test_page_of_a_cell_not_begun_says_so_everywhere(tmp_path: Path) -> None:
    cell = a_cell()
    path = write_cell_page(cell, Store(tmp_path), floors(cell))
    page = Page(path)
    assert page.addresses == []
    assert page.text.count("Missing: ") == 9  # three subjects, training, three probes, reconstructions, views
    assert "is not finished" in page.text


def test_page_during_pretraining_shows_what_there_is(tmp_path: Path) -> None:
    place, cell = Store(tmp_path), a_cell()
    node = place.node("pretrain", config.key(cell, "pretrain"))
    node.create()
    forge_pretrain(place, cell, np.random.default_rng(0), decodes=True)
    page = Page(write_cell_page(cell, place, {}))
    assert {path.stem for path in place.cell(config.cell_key(cell)).path.glob("*.png")} == {
        "training", "reconstructions", "reconstructions-by-epoch", "views",
    }  # fmt: skip
    assert "Missing: pretrain, features, probe, kmeans of this cell." in page.text


def test_method_without_decoder_says_there_are_no_reconstructions(tmp_path: Path) -> None:
    place, cell = Store(tmp_path), a_cell(method="simclr")
    page = Page(write_cell_page(cell, place, forge_all(place, cell, decodes=False)))
    assert "simclr has no decoder" in page.text
    assert "This method has no reconstruction term." in page.text
    assert not (place.cell(config.cell_key(cell)).path / "reconstructions-by-epoch.png").exists()


@pytest.mark.parametrize("name", ["random", "pixels"])
def test_floor_has_a_page_of_its_own(tmp_path: Path, name: str) -> None:
    place, cell = Store(tmp_path), a_cell(method=name)
    page = Page(write_cell_page(cell, place, forge_all(place, cell)))
    assert f"Nothing is trained: {name} is a floor." in page.text
    assert "Missing" not in page.text


def test_text_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, cell = Store(tmp_path), a_cell(method="pixels")
    monkeypatch.setattr(type(cell.method), "name", '<b title="x">&dae</b>')
    beside = {"a <i>floor</i> & more": floors(a_cell())["random encoder"]}
    forge(place, cell, right=0.9, seed=1)
    page = Page(write_cell_page(cell, place, beside))
    assert "<b " not in page.raw
    assert "<i>" not in page.raw
    assert "<fast>" not in page.raw
    assert '<b title="x">&dae</b>' in page.text
    assert "a <i>floor</i> & more" in page.text
    assert "a <fast> one" in page.text


def test_every_setting_is_shown_and_those_that_differ_are_marked(done: tuple[Store, Cell, Path]) -> None:
    _, cell, path = done
    page = Page(path)
    for name in config.flat(config.settings(cell)):
        assert [row for row in page.rows if row[0].strip() == name], name
    assert page.row("optimisation.epochs") == ["4 ", "differs: 300"]
    assert page.row("optimisation.batch_size") == ["512 ", "same"]
    assert "optimisation.epochs is 4; the study's default is 300." in page.text


def test_origin_of_every_stage_is_shown(done: tuple[Store, Cell, Path]) -> None:
    _, cell, path = done
    page = Page(path)
    assert [text.strip() for text in page.row("node")] == [config.key(cell, stage) for stage in cell.stages()]
    assert page.row("host") == ["node & co"] * 4
    assert page.row("seconds worked") == ["12.5"] * 4
    assert "Computed with uncommitted changes to the code: pretrain, features, probe, kmeans." in page.text
    assert "--nproc-per-node=2" in page.text


def test_interruption_is_told(tmp_path: Path) -> None:
    place, cell = Store(tmp_path), a_cell()
    node = place.node("pretrain", config.key(cell, "pretrain"))
    node.create()
    with Log(node.log) as log:
        log.event("started")
        log.event("stopped", error="Interrupted", reason="asked to by SIGTERM")
        log.event("started")
    page = Page(write_cell_page(cell, place, {}))
    assert "pretrain was started 2 times" in page.text
    assert "pretrain stopped: Interrupted, asked to by SIGTERM." in page.text


def test_page_is_the_same_when_it_is_drawn_again(done: tuple[Store, Cell, Path]) -> None:
    place, cell, path = done
    before = path.read_bytes()
    assert write_cell_page(cell, place, floors(cell)).read_bytes() == before


# ---------------------------------------------------------------------------------- views, command


def test_views_at_the_strength_of_the_cell_are_those_kept_while_training() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    cell = a_cell(views={"crop": 20, "jitter": 0.7, "solarize": 0.5}, seed=3)
    kept = pictures(nn.ModuleDict(), cell, images)
    for view in (1, 2):
        assert np.array_equal(views_at(kept["clean"], cell, 0.7, view), kept[f"view{view}"])
        assert not np.array_equal(views_at(kept["clean"], cell, 0.75, view), kept[f"view{view}"])


def test_views_without_crop_flip_and_jitter_are_the_clean_images() -> None:
    clean = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(views_at(clean, a_cell(views={"crop": 32, "flip": 0}), 0.0, 1), clean)


CELLS = [
    {"method": "random"},
    {"method": {"name": "dae", "embedding": "l2", "alpha": 1e-5}, "seed": 3},
    {"method": {"name": "simclr", "temperature": 0.1}, "precision": "bf16"},
    {"method": "ae", "views": {"frozen": True, "blur_kernel": 3}, "data": {"pretrain_images": 50, "evaluate": "1e3"}},
    {"method": "ae", "data": {"pretrain": "null", "evaluate": "7"}, "optimisation": {"checkpoints": []}},
    {"method": "single_view_ae", "probe": {"seeds": [1, 2], "learning_rates": [1e-3, 0.01], "labels_per_class": 10}},
    {"method": "dae", "optimisation": {"epochs": 20, "checkpoints": [5]}, "features": {"epoch": 5}},
]


@pytest.mark.parametrize("given", CELLS)
def test_command_reads_back_as_the_same_cell(given: dict[str, Any]) -> None:
    cell = config.cell(given)
    words = shlex.split(run_again(cell))
    assert words[:2] == ["dae-ssl", "run"]
    assert config.cell_key(cell_of(words[2:])) == config.cell_key(cell)


def test_command_of_the_page_is_that_of_the_cell(done: tuple[Store, Cell, Path]) -> None:
    _, cell, path = done
    command = run_again(cell)
    assert command in Page(path).text
    assert shlex.split(command)[:3] == ["dae-ssl", "run", "method=dae"]
