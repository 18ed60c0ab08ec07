"""The page of a cell: whole by itself, every picture a file beside it, nothing missing left unsaid."""

import base64
from pathlib import Path

import numpy as np
import pytest

from dae_ssl import config
from dae_ssl.compute.cells import floors
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.store import Store
from tests.forged import Page, a_cell, forge, forge_all, forge_pretrain
from tests.report.cell.conftest import Drawn


def test_page_needs_nothing_beside_it(drawn: Drawn) -> None:
    page = drawn.page
    assert len(page.addresses) == 5
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.raw.startswith("<!DOCTYPE html>")
    for outside in ("<script", "<link", "@import", "url(", "http://", "https://", "file:"):
        assert outside not in page.raw.lower()


def test_every_embedded_picture_is_a_file_beside_the_page(drawn: Drawn) -> None:
    embedded = [base64.b64decode(address.partition(",")[2]) for address in drawn.page.addresses]
    files = {path.name: path.read_bytes() for path in drawn.path.parent.glob("*.png")}
    assert sorted(files) == [
        "probe.png", "reconstructions-by-epoch.png", "reconstructions.png", "training.png", "views.png",
    ]  # fmt: skip
    assert sorted(files.values()) == sorted(embedded)
    assert all(content.startswith(b"\x89PNG") for content in embedded)


def test_nothing_half_written_stays_beside_the_page(drawn: Drawn) -> None:
    assert [path.name for path in drawn.path.parent.iterdir() if path.suffix not in (".png", ".html")] == []


def test_page_is_the_same_when_it_is_drawn_again(drawn: Drawn) -> None:
    before = drawn.path.read_bytes()
    assert write_cell_page(drawn.cell, drawn.store, drawn.floors).read_bytes() == before


def test_missing_floor_is_named_as_missing(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    forge(store, cell, right=0.9, seed=1)
    beside = floors(cell)
    forge(store, beside["raw pixels"], right=0.6, seed=2)
    page = Page(write_cell_page(cell, store, beside))
    assert "Missing: pretrain, features, probe, kmeans of random encoder." in page.text
    assert "the floor “random encoder” is missing" in page.text
    assert "Missing: the probe of random encoder has not begun." in page.text
    row = page.row("Test, the study's probe")
    assert row[1].strip() == "missing"
    assert row[2] == "–"
    assert "raw pixels is missing" not in page.text


def test_page_of_a_cell_not_begun_says_so_everywhere(tmp_path: Path) -> None:
    cell = a_cell()
    page = Page(write_cell_page(cell, Store(tmp_path), floors(cell)))
    assert page.addresses == []
    assert page.text.count("Missing: ") == 9  # three cells, training, three probes, reconstructions, views
    assert "is not finished" in page.text


def test_page_during_pretraining_shows_what_there_is(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    store.node("pretrain", config.key(cell, "pretrain")).create()
    forge_pretrain(store, cell, np.random.default_rng(0), decodes=True)
    page = Page(write_cell_page(cell, store, {}))
    assert {path.stem for path in store.cell(config.cell_key(cell)).path.glob("*.png")} == {
        "training", "reconstructions", "reconstructions-by-epoch", "views",
    }  # fmt: skip
    assert "Missing: pretrain, features, probe, kmeans of this cell." in page.text


def test_method_without_decoder_says_there_are_no_reconstructions(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell(method="simclr")
    page = Page(write_cell_page(cell, store, forge_all(store, cell, decodes=False)))
    assert "simclr has no decoder" in page.text
    assert "This method has no reconstruction term." in page.text
    assert not (store.cell(config.cell_key(cell)).path / "reconstructions-by-epoch.png").exists()


@pytest.mark.parametrize("name", ["random", "pixels"])
def test_floor_has_a_page_of_its_own(tmp_path: Path, name: str) -> None:
    store, cell = Store(tmp_path), a_cell(method=name)
    page = Page(write_cell_page(cell, store, forge_all(store, cell)))
    assert f"Nothing is trained: {name} is a floor." in page.text
    assert "Missing" not in page.text


def test_text_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cell = Store(tmp_path), a_cell(method="pixels")
    monkeypatch.setattr(type(cell.method), "name", '<b title="x">&dae</b>')
    beside = {"a <i>floor</i> & more": floors(a_cell())["random encoder"]}
    forge(store, cell, right=0.9, seed=1)
    page = Page(write_cell_page(cell, store, beside))
    assert "<b " not in page.raw
    assert "<i>" not in page.raw
    assert "<fast>" not in page.raw
    assert '<b title="x">&dae</b>' in page.text
    assert "a <i>floor</i> & more" in page.text
    assert "a <fast> one" in page.text
