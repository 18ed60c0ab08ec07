"""Every relative link of every page leads to a file or folder that is there, and to a heading that is there."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT, Page, page


def broken(shown: Page, root: Path = ROOT) -> list[str]:
    """Return one line for each relative link of a page that leads nowhere."""
    found = []
    for line, address in shown.links():
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        here = root / shown.name
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here.resolve()
        where = f"{shown.name}:{line}: {address}"
        if not target.exists():
            found.append(f"{where}: {parts.path} is not there")
        elif not target.is_relative_to(root.resolve()):
            found.append(f"{where} leads out of the repository")
        elif parts.fragment and target.suffix == ".md":
            linked = shown if target == here.resolve() else Page.of(target.name, target.read_text(encoding="utf-8"))
            if unquote(parts.fragment) not in linked.anchors():
                found.append(f"{where}: no heading is called so; there are {', '.join(sorted(linked.anchors()))}")
    return found


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    found = broken(page(name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ("[a](other.md)", None),
        ("[a](../code.py)", None),
        ("[a](../)", None),
        ("[a](#a-heading-with-code)", None),
        ("[a](other.md#there)", None),
        ("[a](other.md#named)", None),
        ("[a](https://example.com/nowhere#x)", None),
        ("`[a](nowhere.md)`", None),
        ("[a](nowhere.md)", "nowhere.md is not there"),
        ("![a](nowhere.png)", "nowhere.png is not there"),
        ("<img src='nowhere.png' alt=''>", "nowhere.png is not there"),
        ("text <a href=\"nowhere.md\">a</a>", "nowhere.md is not there"),
        ("[a](#elsewhere)", "no heading is called so; there are a-heading-with-code, a-heading-with-code-1"),
        ("[a](other.md#elsewhere)", "no heading is called so; there are named, there"),
        ("| a |\n|---|\n| [a](nowhere.md) |", "nowhere.md is not there"),
        ("[a][b]\n\n[b]: nowhere.md", "nowhere.md is not there"),
        ("[a](../../outside.md)", "leads out of the repository"),
    ],
)  # fmt: skip
def test_planted_link_is_judged(link: str, told: str | None, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (tmp_path / "outside.md").touch()
    (root / "code.py").touch()
    (root / "docs" / "other.md").write_text("# There\n\n<a id='named'></a>\n")
    text = f"# A heading, with `code`\n\n{link}\n\n## A heading with code\n"
    (root / "docs" / "page.md").write_text(text)
    found = broken(Page.of("docs/page.md", text), root)
    assert [line.startswith("docs/page.md:") and line.endswith(told or "") for line in found] == [True] * bool(told)
