"""A page of the documentation as its tests see it: links, anchors, blocks of code, commands in the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md",
                 ROOT / "results" / "README.md", *(ROOT / "docs").rglob("*.md")) if path.is_file()
)  # fmt: skip
"""Every page there is, by its path from the root."""

RUN, OTHERS = ("sh", "python", "yaml"), ("text", "toml", "json", "bibtex", "diff", "make", "tex", "ini")
MISSPELT = {"bash": "sh", "shell": "sh", "console": "sh", "zsh": "sh", "py": "python", "yml": "yaml", "": "text"}
"""What a block is called here, by what others call it."""

_MARK = re.compile(r"<!--\s*not run\b(.*?)-->\s*", re.DOTALL)
_REASON = re.compile(r"\s*:\s*(\S.*?)\s*", re.DOTALL)
_ADDRESS = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"']+)["']""", re.IGNORECASE)
_NAMED = re.compile(r"""<\w+\b[^>]*?\b(?:id|name)=["']([^"']+)["']""", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """The line of its first line of code, counted from 1."""
    kind: str
    """The word behind the fence, such as `sh`."""
    text: str
    reason: str | None
    """Why it is not run; None where it is run."""

    @property
    def place(self) -> str:
        """Where it stands, as messages have it."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page, read."""

    name: str
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, name: str, text: str) -> "Page":
        """Read a page from its text."""
        return cls(name, tuple(MarkdownIt("commonmark").enable("table").parse(text)))

    def blocks(self) -> Iterator[Block]:
        """Yield its fenced blocks. Raises ValueError for a mark without a reason or away from a block."""
        marked: str | None = None
        for token in self.tokens:
            here = f"{self.name}:{(token.map or [0])[0] + 1}"
            if token.type == "html_block" and (mark := _MARK.fullmatch(token.content)):
                reason = _REASON.fullmatch(mark[1])
                if reason is None:
                    raise ValueError(f"{here}: the mark has no reason: write <!-- not run: REASON -->")
                marked = reason[1]
                continue
            if token.type == "fence":
                kind = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
                yield Block(self.name, (token.map or [0])[0] + 2, kind, token.content, marked)
            elif marked is not None:
                raise ValueError(f"{here}: the mark above is not on the line before a block: move it there")
            marked = None

    def spans(self) -> Iterator[tuple[int, str]]:
        """Yield the line and text of each code span."""
        for line, token in self._inline():
            if token.type == "code_inline":
                yield line, token.content

    def links(self) -> Iterator[tuple[int, str]]:
        """Yield the line and address of each link and picture, those in HTML too."""
        for line, token in self._inline():
            if token.type in ("link_open", "image"):
                yield line, str(token.attrGet("href") or token.attrGet("src"))
            elif token.type == "html_inline":
                yield from ((line, address) for address in _ADDRESS.findall(token.content))
        for token in self.tokens:
            if token.type == "html_block":
                yield from (((token.map or [0])[0] + 1, address) for address in _ADDRESS.findall(token.content))

    def anchors(self) -> set[str]:
        """Return what `PAGE#...` may name: its headings, as GitHub and the site call them, and elements with a name."""
        found = set[str]()
        for token, after in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == "heading_open":
                name = slug("".join(part.content for part in after.children or [] if part.type != "softbreak"))
                times = next(n for n in range(len(self.tokens)) if (f"{name}-{n}" if n else name) not in found)
                found.add(f"{name}-{times}" if times else name)
            found |= set(_NAMED.findall(token.content)) if token.type in ("html_block", "inline") else set()
        return found

    def _inline(self) -> Iterator[tuple[int, Token]]:
        for token in self.tokens:
            for part in token.children or []:
                yield (token.map or [0])[0] + 1, part


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def page(name: str) -> Page:
    """Return a page of the repository."""
    return Page.of(name, (ROOT / name).read_text(encoding="utf-8"))
