"""The page of an experiment and its files: whole by itself, every part there, gaps shown as gaps."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dae_ssl import experiments
from dae_ssl.store import Store
from tests.forged import Page
from tests.report.experiment.conftest import drawn, records, sections
from tests.report.test_latex import a_table, cells

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def study(store: Store) -> Path:
    return drawn(store, "study")


def test_every_figure_is_an_svg_and_a_png_and_every_table_html_markdown_latex_and_csv(study: Path) -> None:
    kinds: dict[str, set[str]] = {}
    for path in study.parent.iterdir():
        kinds.setdefault(path.stem, set()).add(path.suffix)
    assert kinds.pop("report") == {".html"}
    tables = {name for name, found in kinds.items() if ".md" in found}
    assert all(kinds[name] == {".html", ".md", ".tex", ".csv"} for name in tables)
    assert all({".svg", ".png"} <= suffixes for name, suffixes in kinds.items() if name not in tables)
    shown = {f"{section.name}-{exhibit.name}" for section in sections("study") for exhibit in section.exhibits}
    assert shown <= kinds.keys()
    assert {f"{section.name}-claims" for section in sections("study") if section.claims} <= tables


def test_tables_say_in_latex_what_they_say_in_markdown_and_are_linked(study: Path) -> None:
    tables = sorted(study.parent.glob("*.tex"))
    for path in tables:
        head, _, *lines = path.with_suffix(".md").read_text().splitlines()
        rows = [[cell.strip().strip("*`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in (head, *lines)]
        assert cells(path.read_text()) == [[cell.replace("\\|", "|") for cell in row] for row in rows], path.name
    assert {path.name for path in tables} <= {*Page(study).addresses}


@pytest.mark.slow
def test_pdflatex_sets_every_table_with_booktabs_alone(study: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        pytest.skip("pdflatex is not installed: apt-get install texlive-latex-recommended")
    if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode != 0:
        pytest.skip("booktabs is not installed: apt-get install texlive-latex-recommended")
    body = "\n\n".join([a_table().latex(), *(path.read_text() for path in sorted(study.parent.glob("*.tex")))])
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"
    (tmp_path / "all.tex").write_text(document % body)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not re.search("Missing character|Undefined", (tmp_path / "all.log").read_text(errors="replace"))


def test_every_row_of_every_table_is_there_measured_or_not(study: Path) -> None:
    for section in sections("study"):
        for exhibit in section.exhibits:
            path = study.parent / f"{section.name}-{exhibit.name}.csv"
            if path.exists() and "row" in records(path)[0]:
                assert {row.label for row in section.shown} <= {line["row"] for line in records(path)} | {""}, path.name
    lines = [line for line in records(study.parent / "methods-table-2.csv") if line["row"] == "AE, L1"]
    assert {line["interval_over"] for line in lines} == {"not yet measured"}
    assert {line["mean"] for line in lines} == {""}


def test_page_stands_by_itself(study: Path) -> None:
    page = Page(study)
    outside = [address for address in page.addresses if not address.startswith("data:")]
    assert all((study.parent / address).exists() for address in outside if "://" not in address and address[0] != "#")
    assert not any("://" in address for address in outside)
    assert "<script" not in page.raw


@pytest.mark.parametrize("name", ["embedding_loss", "reconstructions"])
def test_page_is_the_same_when_drawn_again(name: str, store: Store) -> None:
    folder = drawn(store, name).parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    drawn(store, name)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_experiment_with_nothing_measured_is_drawn_with_everything_missing(tmp_path: Path) -> None:
    for name in set(experiments.names()) - {"study"}:  # which is made of others
        path = drawn(Store(tmp_path), name)
        page = Page(path)
        assert "not yet measured" in page.text.lower(), name
        assert path.parent.name == name


@pytest.mark.slow
def test_page_opens_offline_in_a_browser_with_all_its_pictures_and_no_errors(study: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, offline=True)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"failed {request.url[:80]}"))
        page.goto(study.as_uri())
        widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        for section in sections("study"):
            assert page.locator(f"#{section.name}").is_visible()
        browser.close()
    assert said == []
    assert len(widths) >= 12
    assert min(widths) > 100
    assert overflow <= 0, "the page itself does not scroll sideways"
