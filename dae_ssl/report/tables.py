"""Tables: for people as HTML and Markdown, for programs as CSV with every number in a column of its own."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from dae_ssl.report.markup import Content, document, missing, row, table, tag

Record = Mapping[str, str | float | int | None]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What stands in a cell of a table: a text, something small below it, or links."""

    text: str = ""
    small: str = ""
    absent: bool = False
    """Whether it says that something is missing."""
    links: Sequence[tuple[str, str]] = ()
    """Texts, and where each leads; nowhere yet, where that is empty."""

    def element(self) -> Content:
        """Return it as part of a page."""
        shown: Content = missing(self.text) if self.absent else self.text
        if self.links:
            linked = (tag("a", text, href=to) if to else missing(text) for text, to in self.links)
            return tag("span", *(part for link in linked for part in (link, " ")), style="white-space: nowrap")
        return tag("span", shown, tag("span", self.small, class_="small")) if self.small else shown

    def plain(self) -> str:
        """Return it as Markdown, whose bars would end the cell."""
        shown = f"*{self.text}*" if self.absent else self.text or ", ".join(text for text, _ in self.links)
        return f"{shown} {self.small}".strip().replace("|", "\\|")


NOTHING = Entry()
MISSING = Entry(text="not yet measured", absent=True)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a heading for every column and row."""

    title: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Entry]]]
    records: Sequence[Record]
    """The same in columns, a record for each number."""

    def element(self) -> Element:
        """Return the table as part of a page."""
        return table(
            list(self.head), [row(name, *(entry.element() for entry in entries)) for name, entries in self.rows]
        )

    def html(self) -> bytes:
        """Return the table as a page of its own; links in it lead from the folder of the experiment's page."""
        return document(self.title, tag("h1", self.title), self.element())

    def markdown(self) -> str:
        """Return the table as GitHub shows it."""
        head = [name.replace("|", "\\|") for name in self.head]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for name, entries in self.rows:
            lines.append("| " + " | ".join([name.replace("|", "\\|"), *(entry.plain() for entry in entries)]) + " |")
        return "\n".join(lines) + "\n"


def comma_separated(records: Sequence[Record]) -> str:
    """Return records as CSV; what is not known is empty."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in record.items()} for record in records)
    return content.getvalue()
