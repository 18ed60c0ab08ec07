"""Write tables as HTML, Markdown and LaTeX for people, and as CSV with one number per column for programs."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from dae_ssl.report.latex import escaped, tabular
from dae_ssl.report.markup import Content, document, missing, tag
from dae_ssl.report.significance import Estimate

Record = Mapping[str, str | float | int | None]
"""A line of a CSV file, by column."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The content of a table's field: a text with small text below it, or several lines, or links."""

    text: str = ""
    small: str = ""
    absent: bool = False
    """Whether the text says that something is missing."""
    code: bool = False
    """Whether the text is code, such as a key or a setting."""
    lines: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    """Texts and addresses; a text with an empty address has no page yet."""

    def element(self) -> Content:
        """Return the entry as an element of a page."""
        if self.links:
            linked = (tag("a", text, href=to) if to else missing(text) for text, to in self.links)
            return tag("span", *(part for link in linked for part in (link, " ")), style="white-space: nowrap")
        if self.lines:
            return tag("span", *(part for line in self.lines for part in (line, tag("br"))))
        shown: Content = missing(self.text) if self.absent else tag("code", self.text) if self.code else self.text
        return tag("span", shown, tag("span", self.small, class_="small")) if self.small else shown

    def plain(self) -> str:
        """Return the entry as Markdown, with escaped vertical bars."""
        marked = f"*{self.text}*" if self.absent else f"`{self.text}`" if self.code else self.text
        return f"{marked or self._listed()} {self.small}".strip().replace("|", "\\|")

    def latex(self) -> str:
        """Return it as LaTeX."""
        text = escaped(self.text)
        marked = rf"\emph{{{text}}}" if self.absent else rf"\texttt{{{text}}}" if self.code else text
        return f"{marked or escaped(self._listed())} {escaped(self.small)}".strip()

    def _listed(self) -> str:
        return ", ".join([*self.lines, *(text for text, _ in self.links)])


NOTHING, DASH = Entry(), Entry(text="–")
MISSING = Entry(text="not yet measured", absent=True)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a table, with its heading."""

    name: str
    entries: Sequence[Entry]
    code: bool = False
    """Whether the heading is code."""
    style: str = ""
    """The CSS class of the line: "small", or "differs", which is highlighted."""

    def element(self) -> Element:
        """Return the line as an element of a table."""
        name = tag("th", tag("code", self.name) if self.code else self.name, scope="row")
        cells = (tag("td", entry.element()) for entry in self.entries)
        return tag("tr", name, *cells, **({"class_": self.style} if self.style else {}))

    def latex(self) -> list[str]:
        """Return its name and its cells as LaTeX."""
        return [Entry(text=self.name, code=self.code).latex(), *(entry.latex() for entry in self.entries)]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a heading for every column and line."""

    title: str
    head: Sequence[str]
    lines: Sequence[Line]
    records: Sequence[Record] = ()
    """The same numbers for CSV, with a record for each."""
    wraps: bool = False
    """Whether its entries are long and may be broken anywhere."""

    def element(self) -> Element:
        """Return the table as an element of a page; it scrolls sideways in a narrow window."""
        head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in self.head)))
        body = tag("tbody", *(line.element() for line in self.lines))
        for cell in body.iter("td") if self.wraps else ():
            cell.set("class", "long")
        return tag("div", tag("table", head, body), class_="wide")

    def titled(self, *note: Content) -> Iterator[Element]:
        """Yield the title, the table, and the note below it, if any."""
        yield tag("h3", self.title)
        yield self.element()
        if note:
            yield tag("p", *note, class_="note")

    def html(self) -> bytes:
        """Return the table as a separate page; its links are relative to the folder of the experiment's page."""
        return document(self.title, tag("h1", self.title), self.element())

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        head = [name.replace("|", "\\|") for name in self.head]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for line in self.lines:
            name = line.name.replace("|", "\\|")
            lines.append("| " + " | ".join([name, *(entry.plain() for entry in line.entries)]) + " |")
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """Return the table as LaTeX, for the package booktabs; links in it are their texts."""
        rows = [line.latex() for line in self.lines]
        plain = [[line.name, *(entry.plain() for entry in line.entries)] for line in self.lines]
        return tabular(self.title, [escaped(name) for name in self.head], rows, [self.head, *plain])


def comma_separated(records: Sequence[Record]) -> str:
    """Return records as CSV, with empty fields for unknown values."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in record.items()} for record in records)
    return content.getvalue()


def in_columns(estimate: Estimate | None) -> Record:
    """Return the columns of an estimate in a CSV file."""
    if estimate is None:
        return {"mean": None, "low": None, "high": None, "seeds": 0, "interval_over": "not yet measured"}
    edges = {"low": estimate.low, "high": estimate.high}
    rounded = {name: None if edge is None else round(edge, 6) for name, edge in edges.items()}
    return {"mean": round(estimate.mean, 6), **rounded, "seeds": estimate.seeds, "interval_over": estimate.over}
