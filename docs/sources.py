"""What the site adds to the pages: source files that they link to, the map of all pages, and the way in."""

import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

FOLDER = "source"
"""Where pages of source files lie on the site."""
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"^- \[([^]]*)\]\(([^)#]+)\.md\)", re.MULTILINE)


class Sources:
    """The source files and folders that pages link to, each of which becomes a page of the site.

    On GitHub such a link opens the file; the site has no files but its own pages, and works without a network.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._linked: set[str] = set()

    def link(self, app: Sphinx, doctree: nodes.document) -> None:
        """Let links to text files and folders of the repository lead to their pages on the site."""
        page = app.env.current_document.docname
        wanted = (
            node for kind in (addnodes.download_reference, addnodes.pending_xref) for node in doctree.findall(kind)
        )
        for node in list(wanted):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), node["reftarget"]))
            if path.startswith("..") or not self._shown(path):
                continue
            self._linked.add(path)
            to = relative_uri(app.builder.get_target_uri(page), f"{FOLDER}/{path}.html")
            node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=to))

    def _shown(self, path: str) -> bool:
        """Return whether a path is a folder or a text, other than the pages themselves."""
        there = self.root / path
        if there.is_dir():
            return True
        try:
            return there.suffix != ".md" and there.is_file() and bool(there.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            return False

    def pages(self, _app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yield a page for each file and folder that was linked to, and for each file in such a folder."""
        shown, waiting = set[str](), sorted(self._linked)
        while waiting:
            path = waiting.pop()
            if path in shown:
                continue
            shown.add(path)
            files = self._files(path)
            waiting += files
            body = self._listing(path, files) if (self.root / path).is_dir() else self._text(path)
            title = html.escape(path)
            yield f"{FOLDER}/{path}", {"title": title, "body": f"<h1>{title}</h1>\n{body}"}, "page.html"

    def _files(self, folder: str) -> list[str]:
        """Return the text files of a folder, without what is hidden or compiled."""
        there = self.root / folder
        found = sorted(each.name for each in there.iterdir() if each.is_file()) if there.is_dir() else []
        return [f"{folder}/{name}" for name in found if name[0] != "." and self._shown(f"{folder}/{name}")]

    def _listing(self, folder: str, files: list[str]) -> str:
        here = f"{FOLDER}/{folder}.html"
        links = (f'<li><a href="{relative_uri(here, f"{FOLDER}/{each}.html")}">{html.escape(each)}</a></li>'
                 for each in files)  # fmt: skip
        return f"<ul>{''.join(links)}</ul>"

    def _text(self, path: str) -> str:
        text = (self.root / path).read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(path)
        except ClassNotFound:
            lexer = TextLexer()
        return str(highlight(text, lexer, HtmlFormatter(cssclass="highlight")))


def toctrees(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the sections and lists of links of the first page the map of the site, which Sphinx wants as toctrees.

    So the list that people read, there and on GitHub, is the only one.
    """
    if page != app.config.root_doc:
        return
    _, *sections = _SECTION.split(source[0])
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        entries = "\n".join(f"{called} <{path}>" for called, path in _ENTRY.findall(text))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {name}\n\n{entries}\n```\n"


def redirect(app: Sphinx, error: Exception | None) -> None:
    """Let the folder of the site open with its first page."""
    if error is None:
        to = f"{app.config.root_doc}.html"
        text = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<meta http-equiv="refresh" content="0; url={to}">\n'
        (Path(app.outdir) / "index.html").write_text(f'{text}<title>dae_ssl</title>\n<a href="{to}">dae_ssl</a>\n')
