"""A table reads the same to people and to programs."""

import csv

from dae_ssl.report.significance import Estimate
from dae_ssl.report.table import DASH, Entry, Line, Table, comma_separated, in_columns


def table(*entries: Entry, **more: object) -> Table:
    head = ["", *(f"column {number}" for number in range(len(entries)))]
    return Table(title="T", head=head, lines=[Line(name="r", entries=entries)], **more)


def test_table_reads_the_same_as_html_markdown_and_csv() -> None:
    shown = Table(
        title="T", head=["", "a|b", "c"],
        lines=[Line(name="r", entries=[Entry(text="1.5", small="[1, 2]"), Entry(text="gone", absent=True)])],
        records=[{"row": "r", "mean": 1.5}, {"row": "s", "high": None, "note": 'a "quoted", one'}],
    )  # fmt: skip
    assert shown.markdown() == "|  | a\\|b | c |\n|---|---|---|\n| r | 1.5 [1, 2] | *gone* |\n"
    assert list(csv.DictReader(comma_separated(shown.records).splitlines())) == [
        {"row": "r", "mean": "1.5", "high": "", "note": ""},
        {"row": "s", "mean": "", "high": "", "note": 'a "quoted", one'},
    ]
    assert b"<h1>T</h1>" in shown.html()
    assert b'<span>1.5<span class="small">[1, 2]</span></span>' in shown.html()
    assert b'<span class="missing">gone</span>' in shown.html()


def test_code_lines_and_links_are_shown_as_what_they_are() -> None:
    shown = table(
        Entry(text="a1b2", code=True), Entry(lines=["numpy 2", "torch 3"]), Entry(links=[("p", "x"), ("q", "")])
    )
    page = shown.html().decode()
    assert "<td><code>a1b2</code></td><td><span>numpy 2<br>torch 3<br></span></td>" in page
    assert '<a href="x">p</a> <span class="missing">q</span> ' in page
    assert shown.markdown().splitlines()[-1] == "| r | `a1b2` | numpy 2, torch 3 | p, q |"


def test_cells_that_hold_long_texts_may_break_anywhere() -> None:
    assert '<td class="long">–</td>' in table(DASH, wraps=True).html().decode()
    assert "<td>–</td>" in table(DASH).html().decode()


def test_title_stands_above_the_table_and_the_note_below() -> None:
    title, _, note = table(DASH).titled("a note")
    assert (title.text, note.text, note.get("class")) == ("T", "a note", "note")
    assert len(list(table(DASH).titled())) == 2


def test_estimate_that_is_not_there_is_empty_in_its_columns() -> None:
    columns = in_columns(Estimate(mean=1.23456789, seeds=1))
    assert columns == {"mean": 1.234568, "low": None, "high": None, "seeds": 1, "interval_over": "nothing"}
    assert in_columns(None) == {
        "mean": None,
        "low": None,
        "high": None,
        "seeds": 0,
        "interval_over": "not yet measured",
    }
