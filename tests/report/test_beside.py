"""The files beside a page, and what the page shows of them."""

import base64
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dae_ssl.files import StoreError
from dae_ssl.report.beside import Beside
from dae_ssl.report.drawing import Drawing, blank
from dae_ssl.report.table import DASH, Line, Table


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_figure_is_written_as_svg_png_and_csv_and_embedded_as_the_svg(tmp_path: Path) -> None:
    drawing = Drawing(blank(height_pixels=100), records=[{"row": "r", "mean": 1.5}])
    shown, links = Beside(tmp_path).drawing("f", drawing, alt="what it shows", caption="what it says")
    assert names(tmp_path) == {"f.svg", "f.png", "f.csv"}
    assert (tmp_path / "f.csv").read_text() == "row,mean\nr,1.5\n"
    (image,) = shown.iter("img")
    kind, _, content = str(image.get("src")).partition(",")
    assert (kind, image.get("alt")) == ("data:image/svg+xml;base64", "what it shows")
    assert base64.b64decode(content) == (tmp_path / "f.svg").read_bytes()
    assert [link.get("href") for link in links.iter("a")] == ["f.svg", "f.png", "f.csv"]


def test_figure_without_numbers_has_no_csv(tmp_path: Path) -> None:
    _, links = Beside(tmp_path).drawing("f", Drawing(blank(height_pixels=100)), alt="", caption="")
    assert names(tmp_path) == {"f.svg", "f.png"}
    assert [link.get("href") for link in links.iter("a")] == ["f.svg", "f.png"]


def test_table_is_written_in_four_forms_with_links_to_them_behind_the_note(tmp_path: Path) -> None:
    table = Table(title="T", head=["", "a"], lines=[Line(name="r", entries=[DASH])], records=[{"a": None}])
    shown, note = Beside(tmp_path).table("t", table, "A note. ")
    assert names(tmp_path) == {"t.html", "t.md", "t.tex", "t.csv"}
    assert ElementTree.tostring(shown, method="html", encoding="utf-8") in (tmp_path / "t.html").read_bytes()
    assert "".join(note.itertext()) == "A note. t: HTML MD TEX CSV"


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Beside(tmp_path / "nowhere").picture("p", blank(height_pixels=100), alt="", caption="")
