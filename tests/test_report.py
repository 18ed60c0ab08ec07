"""The page of a cell: whole by itself, the numbers of the records, nothing missing left unsaid."""

import base64
import math
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, store
from dae_ssl.batch.cells import floors
from dae_ssl.batch.log import Log
from dae_ssl.batch.provenance import versions
from dae_ssl.config import Cell
from dae_ssl.report.command import run_again
from dae_ssl.report.figures import views_at
from dae_ssl.report.page import write_cell_page
from dae_ssl.report.significance import mcnemar, told_p, wilson_interval
from dae_ssl.store import Store
from dae_ssl.training.monitor import pictures
from jobs import settings

TEST_IMAGES = 200
VOID = {"meta", "br", "img"}


# ---------------------------------------------------------------------------------- a forged finished cell


def a_cell(**more: Any) -> Cell:
    given: dict[str, Any] = {
        "method": {"name": "dae", "embedding": "l2", "alpha": 1},
        "data": {"pretrain": "digits", "evaluate": "digits", "validation_images": 300},
        "optimisation": {"epochs": 4, "checkpoints": [1, 2]},
        "probe": {"epochs": 3, "seeds": [0, 7], "learning_rates": [0.001, 0.01]},
    }
    return config.cell(given | more)


def commit(place: Store, cell: Cell, stage: str, **facts: Any) -> None:
    source = {
        "commit": "0123abc-modified", "image": None, "versions": versions(), "device": "a <fast> one", "ranks": 2,
        "host": "node & co", "slurm": {"slurm_job_id": "17"}, "finished": 1.7e9, "seconds": 12.5,
    }  # fmt: skip
    node = place.node(stage, config.key(cell, stage))
    node.commit({"stage": stage, "key": node.key, "settings": config.stage_settings(cell, stage)} | source | facts)


def forge(place: Store, cell: Cell, *, right: float, seed: int, decodes: bool = True) -> None:
    """Write a finished cell through the store's and the log's own doors; about `right` of its test images are right."""
    random = np.random.default_rng(seed)
    for stage in cell.stages():
        node = place.node(stage, config.key(cell, stage))
        node.create()
        {"pretrain": forge_pretrain, "probe": forge_probe}.get(stage, forge_nothing)(place, cell, random, decodes)
        figures: dict[str, Any] = {}
        if stage == "probe":
            figures = forge_correct(place, cell, random, right)
        if stage == "kmeans":
            names = ("inertia", "nmi", "ari", "matched_accuracy")
            figures = {f"kmeans_{kind}{name}": random.random() for kind in ("", "standardised_") for name in names}
            store.write_json(node.product(store.KMEANS), figures)
        commit(place, cell, stage, figures=figures)


def forge_nothing(place: Store, cell: Cell, random: np.random.Generator, decodes: bool) -> None:
    """Features and k-means leave nothing in their logs that the page shows."""


def forge_pretrain(place: Store, cell: Cell, random: np.random.Generator, decodes: bool) -> None:
    if not cell.method.trains:
        return
    node = place.node("pretrain", config.key(cell, "pretrain"))
    names = ["clean", "view1", "view2", *(["reconstruction1", "reconstruction2"] if decodes else [])]
    with Log(node.log) as log:
        log.event("started", stage="pretrain")
        for epoch in range(1, cell.optimisation.epochs + 1):
            terms = {"loss": 1 / epoch, "embedding": 0.5 / epoch, "embedding_std": 0.4, "learning_rate": 1e-4 / epoch}
            log(epoch, terms | ({"reconstruction": 0.5 / epoch} if decodes else {}) | {"images_per_second": 1e4})
    for epoch in cell.optimisation.kept_epochs():
        images = {name: random.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8) for name in names}
        with store.appearing(node.product(store.pictures_name(epoch))) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **images)


def forge_probe(place: Store, cell: Cell, random: np.random.Generator, decodes: bool) -> None:  # noqa: ARG001
    with Log(place.node("probe", config.key(cell, "probe")).log) as log:
        for epoch in range(1, cell.probe.epochs + 1):
            log(epoch, {f"validation_accuracy/lr{rate:g}": random.random() for rate in cell.probe.learning_rates})


def forge_correct(place: Store, cell: Cell, random: np.random.Generator, right: float) -> dict[str, Any]:
    node = place.node("probe", config.key(cell, "probe"))
    probe = random.random((len(cell.probe.seeds), TEST_IMAGES)) < right
    logistic = random.random((1, TEST_IMAGES)) < right
    figures = {
        "test_accuracy": float(probe.mean()),
        "validation_accuracy": float(random.random()),
        "probe_learning_rate": cell.probe.learning_rates[-1],
        "logistic_test_accuracy": float(logistic.mean()),
        "logistic_validation_accuracy": float(random.random()),
        "logistic_converged": True,
    }
    by_seed = {str(seed): float(mine.mean()) for seed, mine in zip(cell.probe.seeds, probe, strict=True)}
    store.write_json(node.product(store.PROBE), figures | {"test_accuracy_by_seed": by_seed})
    with store.appearing(node.product(store.CORRECT)) as path, path.open("wb") as file:
        np.savez(file, probe=probe, logistic=logistic, ids=np.arange(TEST_IMAGES))
    return figures


def forge_all(place: Store, cell: Cell, **more: Any) -> dict[str, Cell]:
    forge(place, cell, right=0.9, seed=1, **more)
    beside = floors(cell)
    for seed, floor in enumerate(beside.values(), 2):
        forge(place, floor, right=0.8, seed=seed)
    return beside


# ---------------------------------------------------------------------------------- reading a page


class Page(HTMLParser):
    """What a browser would take from a page: links and sources, rows of tables, text; fails on unbalanced tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data if self._open[-1] in ("td", "th") else f"{data} "

    def row(self, name: str) -> list[str]:
        (found,) = (row[1:] for row in self.rows if row and row[0].strip() == name)
        return found


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


# ---------------------------------------------------------------------------------- views, statistics, command


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
    with pytest.raises(ValueError, match=r"images right \(3,\) and \(2,\)"):
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


def test_p_values_are_told_shortly() -> None:
    assert told_p([0.0004]) == "p < 0.001"
    assert told_p([0.0004, 0.0005]) == "p < 0.001 for all 2 seeds"
    assert told_p([0.0312, 0.5, 0.1]) == "p = 0.031 to 0.50 over 3 seeds"
    assert told_p([0.0001, 0.02]) == "p < 0.001 to 0.020 over 2 seeds"


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
    assert words[:3] == ["python", "-m", "jobs.run_cell"]
    assert config.cell_key(settings.cell(settings.compose(words[3:]))) == config.cell_key(cell)


def test_command_of_the_page_is_that_of_the_cell(done: tuple[Store, Cell, Path]) -> None:
    _, cell, path = done
    command = run_again(cell)
    assert command in Page(path).text
    assert shlex.split(command)[:4] == ["python", "-m", "jobs.run_cell", "method=dae"]
