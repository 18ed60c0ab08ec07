"""The site is built strictly from the pages, opens offline in a browser, and says where a link is broken."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT
from tests.report.experiment.test_page import CHROMIUM

WIDTHS = (500, 1280)


def build(root: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """Build the site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "-n", "--keep-going", "-c", "docs",
               "-d", str(out / "doctrees"), ".", str(out / "site")]  # fmt: skip
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "site"


@pytest.mark.slow
def test_site_has_every_page_and_every_link_of_it_leads_to_one(site: Path) -> None:
    assert [name for name in PAGES if not (site / name).with_suffix(".html").is_file()] == []
    dead = []
    for path in site.rglob("*.html"):
        for address in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^":]*)?"', path.read_text(encoding="utf-8")):
            if not (path.parent / address.partition("?")[0]).exists():
                dead.append(f"{path.relative_to(site)}: {address}")
    assert not dead, "\n".join(dead)


@pytest.mark.slow
def test_make_builds_what_this_file_tests() -> None:
    done = subprocess.run(["make", "-n", "docs", "PYTHON=true"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sphinx-build -q -E -W -n --keep-going -c docs -d build/doctrees . build/docs" in done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two pages, built in a moment."""
    root = tmp_path_factory.mktemp("small")
    (root / "docs").mkdir()
    for name in ("__init__.py", "conf.py", "sources.py", "site.css"):
        shutil.copy(ROOT / "docs" / name, root / "docs" / name)
    (root / "pyproject.toml").write_text('version = "1"\n')
    (root / "code").mkdir()
    (root / "code" / "deep.py").write_text("x = 1 < 2\n")
    (root / "docs" / "index.md").write_text("# Title\n\n## Start\n\n- [Other](other.md): a page\n")
    return root


@pytest.mark.slow
def test_links_to_source_files_and_folders_are_pages_of_the_site(small: Path, tmp_path: Path) -> None:
    links = "[a](../code/deep.py) [b](../code) [c](../code/) [d](index.md#start)"
    (small / "docs" / "other.md").write_text(f"# Other\n\n{links}\n")
    done = build(small, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1</span>" in (tmp_path / "site" / "source" / "code" / "deep.py.html").read_text()
    assert 'href="code/deep.py.html"' in (tmp_path / "site" / "source" / "code.html").read_text()
    assert "docs/index.html" in (tmp_path / "site" / "index.html").read_text()


PLANTED = ["[a](nowhere.md)", "[a](index.md#nowhere)", "[a](../code/nowhere.py)", "![a](nowhere.png)"]


@pytest.mark.slow
def test_broken_link_and_page_without_a_place_fail_the_build_and_are_named(small: Path, tmp_path: Path) -> None:
    (small / "docs" / "other.md").write_text("\n\n".join(["# Other", *PLANTED]))
    (small / "docs" / "unlisted.md").write_text("# Unlisted\n")
    done = build(small, tmp_path)
    (small / "docs" / "unlisted.md").unlink()
    assert done.returncode == 1
    for line in (3, 5, 7, 9):
        assert f"docs/other.md:{line}: WARNING" in done.stderr
    assert "unlisted.md: WARNING: document isn't included in any toctree" in done.stderr


# ---------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_open_offline_without_a_complaint_and_do_not_scroll_sideways(site: Path, browser, width: int) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
    page.on("requestfailed", lambda request: said.append(f"{page.url}: {request.url[:80]} failed"))
    for name in (*PAGES, "docs/../source/dae_ssl/experiments/__init__.py"):
        page.goto((site / name.removesuffix(".md")).with_name(Path(name.removesuffix(".md")).name + ".html").as_uri())
        pictures = page.evaluate("[...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth).length")
        if pictures or page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            said.append(f"{name}: {pictures} pictures are missing, or the page scrolls sideways")
    page.close()
    assert not said, "\n".join(said)


@pytest.mark.slow
def test_search_finds_a_setting_offline(site: Path, browser) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page(offline=True)
    page.goto(f"{(site / 'search.html').as_uri()}?q=solarize")
    page.wait_for_selector("#search-results li a")
    assert "Settings" in page.inner_text("#search-results")
    page.close()
