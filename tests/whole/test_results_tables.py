"""The tables of results that the README and `docs/results.md` show are what the report makes of the files of results.

Between the two markers of a page stand rows of these tables, with as many of their columns as the page likes. Print
all tables, whole, with

    python -m tests.whole.test_results_tables
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.compute.archive import Archive
from dae_ssl.report.experiment.parts import Part, part
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.findings import reader
from dae_ssl.report.numbers import signed
from dae_ssl.report.significance import OVER_IMAGES, Estimate
from dae_ssl.store import Store
from tests.commanded import ask

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/results.md")
MARKED = re.compile(r"<!-- tables: .*?-->\n(.*?)<!-- end of tables -->", re.DOTALL)

Rows = list[dict[str, str]]
"""A line of a table each, by the heads of its columns; the first column names the line."""


@dataclass(frozen=True)
class Study:
    """What was measured of the study at one scale."""

    name: str
    """What the heads of its columns call it."""
    file: str
    asked: tuple[str, ...]
    """The words of `dae-ssl report`."""


STUDIES = (
    Study("4 epochs", "study-short.jsonl", ("study", "--scale=short", "--seeds=0")),
    Study("reduced study", "study-small.jsonl", ("study", "--scale=small")),
)


def measured(study: Study, store: Store) -> list[Part]:
    """Return the parts of a study, with what the repository's file of results has of them."""
    Archive.read(ROOT / "results" / study.file).load(store)
    asked, read = ask([*study.asked, f"--store={store.root}"]), reader(store)
    return [part(section, asked.floors, read) for section in asked.sections]


def tables_of(folder: Path) -> list[Rows]:
    """Return both tables of every study."""
    parts = {study.name: measured(study, Store(folder / study.file)) for study in STUDIES}
    return [table(name, of_study) for name, of_study in parts.items() for table in (accuracies, claims)]


def accuracies(name: str, parts: Iterable[Part]) -> Rows:
    """Return what was measured of Table 2."""
    (methods,) = (part for part in parts if part.section.name == "methods")
    measured = [subject for subject in methods.subjects if subject.by_seed("test_accuracy")]
    several_seeds = any(len(subject.by_seed("test_accuracy")) > 1 for subject in measured)
    return [_accuracy(name, subject, several_seeds) for subject in measured]


def _accuracy(study: str, subject: Subject, several_seeds: bool) -> dict[str, str]:
    scores = ("test_accuracy", "logistic_test_accuracy", "kmeans_matched_accuracy")
    probe, logistic, matched = map(subject.estimate, scores)
    assert probe is not None
    assert logistic is not None
    assert matched is not None
    name = "floor: " * subject.floor + subject.row.label + (f" ({subject.chosen})" if subject.chosen else "")
    over = " over images" if several_seeds and probe.over == OVER_IMAGES else ""
    return {
        "CIFAR-10 test, top-1 %": name,
        "published": "" if subject.row.published is None else f"{subject.row.published:.1f}",
        f"{study}: probe": f"{probe.mean:.2f} [{probe.low:.2f}, {probe.high:.2f}]{over}",
        "seeds": str(probe.seeds),
        "L-BFGS": f"{logistic.mean:.2f}",
        "k-means matched": f"{matched.mean:.2f}",
    }


def claims(name: str, parts: Iterable[Part]) -> Rows:
    """Return every claim that could be tested, once: two parts that speak of the same cells say the same of them."""
    tests = [
        test for part in parts for test in part.tests if test.estimate is not None and test.estimate.low is not None
    ]
    rows = [
        {
            "claim of the study": test.claim.words,
            "source": test.claim.source,
            "published": "" if test.claim.published is None else signed(test.claim.published, 1),
            f"{name} [95 %]": _reach(test.estimate),
            "seeds": str(test.estimate.seeds),
            "verdict": test.verdict,
        }
        for test in tests
        if test.estimate is not None
    ]
    return list({row["claim of the study"]: row for row in reversed(rows)}.values())[::-1]


def _reach(estimate: Estimate) -> str:
    assert estimate.low is not None
    assert estimate.high is not None
    return f"{signed(estimate.mean, 2)} [{signed(estimate.low, 2)}, {signed(estimate.high, 2)}]"


def shown(page: str) -> list[Rows]:
    """Return the tables between the markers of a page."""
    blocks = MARKED.findall((ROOT / page).read_text())
    tables = [text.splitlines() for block in blocks for text in block.strip().split("\n\n")]
    cells = [[[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in table] for table in tables]
    return [[dict(zip(head, line, strict=True)) for line in lines] for head, _rule, *lines in cells]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Rows]:
    return tables_of(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize("page", PAGES)
def test_every_row_that_a_page_shows_is_one_of_the_report(page: str, tables: list[Rows]) -> None:
    for table in shown(page):
        name, heads = next(iter(table[0])), table[0].keys()
        (whole,) = [rows for rows in tables if heads <= rows[0].keys()]
        by_name = {row[name]: row for row in whole}
        for row in table:
            assert row.items() <= by_name[row[name]].items(), f"{page}: print the tables anew with python -m {__name__}"


def test_the_page_of_results_shows_all_rows_so_that_none_is_left_out_for_what_it_says(tables: list[Rows]) -> None:
    assert shown("docs/results.md") == tables


def markdown(rows: Sequence[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- | ", "|---|").replace("--- |", "---|")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write("\n".join(map(markdown, tables_of(Path(folder)))))
