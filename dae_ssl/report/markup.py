"""Make the elements of a page, and the whole page; the serialiser of the element tree escapes every text."""

import base64
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Content = str | Element

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; color: #24292f;
  background: #fff; max-width: 64rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-weight: 500; font-size: 1.6rem; line-height: 1.25; margin: .25rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-weight: 500; font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid #d8dee4; }
h3 { font-weight: 600; font-size: 1rem; margin: 1.5rem 0 .25rem; }
p, li { max-width: 46rem; }
p.lead { font-size: 1.1rem; }
p.note, figcaption, .small { color: #57606a; font-size: .875rem; }
.missing { color: #8a4b00; font-style: italic; }
td .missing { white-space: nowrap; }
.wide { overflow-x: auto; margin: .75rem 0; /* a shadow at the edge behind which more can be scrolled to */
  background: linear-gradient(to right, #fff 2rem, #fff0) left, linear-gradient(to left, #fff 2rem, #fff0) right,
    linear-gradient(to right, #0003, #0000) left, linear-gradient(to left, #0003, #0000) right;
  background-repeat: no-repeat; background-size: 2.5rem 100%, 2.5rem 100%, .8rem 100%, .8rem 100%;
  background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.1rem .3rem 0; border-bottom: 1px solid #eaeef2; }
th { font-weight: 600; white-space: nowrap; }
thead th { border-bottom: 1px solid #8c959f; vertical-align: bottom; }
td .small { display: block; white-space: nowrap; }
tbody th { white-space: normal; min-width: 9rem; }
tr.differs td, tr.differs th { background: #fff8e1; }
code { font: .85em/1.4 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
td code { overflow-wrap: normal; }
td.long { min-width: 11rem; max-width: 18rem; overflow-wrap: anywhere; }
td.long code { overflow-wrap: anywhere; }
pre { background: #f6f8fa; border: 1px solid #d8dee4; border-radius: 4px; padding: .75rem 1rem;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: .75rem 0; }
figure { margin: 1rem 0 1.5rem; }
figure div { overflow-x: auto; }
img { width: 100%; max-width: 1000px; min-width: 44rem; height: auto; display: block; }
@media (max-width: 44rem) { th { white-space: normal; } }
@media print {
  body { font-size: 10.5pt; max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .wide, figure div { overflow: visible; }
  img, td.long { min-width: 0; }
  th { white-space: normal; }
  table { font-size: 7.5pt; }
  td .small { white-space: normal; }
  tbody th { min-width: 0; }
  th, td { padding-right: .6rem; }
}
"""


def tag(name: str, *content: Content, **attributes: str) -> Element:
    """Return an element with text and child elements; a trailing underscore is removed, as in `class_`."""
    element = Element(name, {key.rstrip("_"): value for key, value in attributes.items()})
    last: Element | None = None
    for part in content:
        if isinstance(part, Element):
            element.append(part)
            last = part
        elif last is None:
            element.text = (element.text or "") + part
        else:
            last.tail = (last.tail or "") + part
    return element


def missing(text: str) -> Element:
    """Return a text that is marked as a statement on something missing."""
    return tag("span", text, class_="missing")


def picture(content: bytes, *, alt: str, caption: str, width: int, kind: str = "png") -> Element:
    """Return a figure with an embedded picture (PNG or "svg+xml") that is at most `width` CSS pixels wide."""
    source = f"data:image/{kind};base64," + base64.b64encode(content).decode()
    image = tag("img", src=source, alt=alt, width=str(width))
    return tag("figure", tag("div", image), tag("figcaption", caption))


def document(title: str, *content: Content) -> bytes:
    """Return a whole HTML5 page in UTF-8 that needs no other file."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content_="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", STYLE),
    )
    page = tag("html", head, tag("body", tag("main", *content)), lang="en")
    serialised: bytes = ElementTree.tostring(page, encoding="utf-8", method="html")
    return b"<!DOCTYPE html>\n" + serialised + b"\n"
