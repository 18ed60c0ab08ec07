"""Write the files beside a page, which are figures, pictures and tables, and return them as parts of the page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from dae_ssl.files import write_bytes
from dae_ssl.report.drawing import WIDTH_PIXELS, Drawing, png, svg
from dae_ssl.report.markup import Content, picture, tag
from dae_ssl.report.table import Table, comma_separated


class Beside:
    """Writes files into the folder of a page, and returns what they show as elements of the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, name: str, figure: Any, *, alt: str, caption: str) -> Element:
        """Write NAME.png and return the same picture as an element of the page."""
        content = png(figure)
        self._write(name, "png", content)
        return picture(content, alt=alt, caption=caption, width=WIDTH_PIXELS)

    def drawing(self, name: str, drawing: Drawing, *, alt: str, caption: str) -> Iterator[Element]:
        """Write a figure as SVG and PNG, and its numbers as CSV; yield the figure, and links to the files."""
        vectors = svg(drawing.figure)
        self._write(name, "svg", vectors)
        self._write(name, "png", png(drawing.figure))
        if drawing.records:
            self._write(name, "csv", comma_separated(drawing.records).encode())
        yield picture(vectors, kind="svg+xml", alt=alt, caption=caption, width=WIDTH_PIXELS)
        yield tag("p", _links(name, "svg", "png", *(["csv"] if drawing.records else [])), class_="note")

    def table(self, name: str, table: Table, *note: Content) -> Iterator[Element]:
        """Write a table as HTML, Markdown, LaTeX and CSV; yield the table, and a note with links to the files."""
        self._write(name, "html", table.html())
        self._write(name, "md", table.markdown().encode())
        self._write(name, "tex", table.latex().encode())
        self._write(name, "csv", comma_separated(table.records).encode())
        yield table.element()
        yield tag("p", *note, _links(name, "html", "md", "tex", "csv"), class_="note")

    def _write(self, name: str, kind: str, content: bytes) -> None:
        write_bytes(self.folder / f"{name}.{kind}", content)


def _links(name: str, *kinds: str) -> Element:
    links = [part for kind in kinds for part in (" ", tag("a", kind.upper(), href=f"{name}.{kind}"))]
    return tag("span", f"{name}:", *links)
