"""Make the tables of an experiment: rows with the published numbers, claims with their statistics, and progress."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dae_ssl import config
from dae_ssl.experiments.form import Numbers
from dae_ssl.report.experiment import verdicts
from dae_ssl.report.experiment.parts import Part
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.experiment.verdicts import Tested
from dae_ssl.report.findings import Findings, Reader
from dae_ssl.report.numbers import MINUS, counted, interval, p_values, signed
from dae_ssl.report.scores import measure
from dae_ssl.report.significance import Estimate
from dae_ssl.report.table import DASH, MISSING, NOTHING, Entry, Line, Record, Table, in_columns
from dae_ssl.store import REPORT

# ---------------------------------------------------------------------------------- scores of rows and floors


def rows(exhibit: Numbers, part: Part, *, folder: Path) -> Table:
    """Return the table of some scores of rows and floors; links are relative to `folder`."""
    published = any(subject.row.published is not None for subject in part.subjects)
    head, lines, records = [""], [], list[Record]()
    for score in exhibit.scores:
        beside = published and score == "test_accuracy"
        head += ["published"] if beside else []
        head.append(measure(score).axis)
        head += ["difference", "verdict"] if beside else []
    for subject in part.subjects:
        entries = list[Entry]()
        for score in exhibit.scores:
            if published and score == "test_accuracy":
                entries += _compared(subject, reduced=part.section.reduced)
            else:
                entries.append(_estimated(subject, score))
            records.append(_record(subject, score, reduced=part.section.reduced))
        lines.append(Line(name=_name(subject), entries=[*entries, _pages(subject.findings, folder)]))
    return Table(title=exhibit.title, head=[*head, "cells"], lines=lines, records=records)


def _name(subject: Subject) -> str:
    chosen = f" ({subject.chosen})" if subject.chosen else ""
    return f"floor: {subject.row.label}" if subject.floor else f"{subject.row.label}{chosen}"


def _compared(subject: Subject, *, reduced: bool) -> tuple[Entry, Entry, Entry, Entry]:
    """Return the published accuracy, the measured one, their difference, and the verdict."""
    published, estimate = subject.row.published, subject.estimate("test_accuracy")
    measured = _estimated(subject, "test_accuracy")
    if published is None:
        return DASH, measured, NOTHING, NOTHING
    difference = DASH if estimate is None else Entry(text=signed(estimate.mean - published, 2))
    return Entry(text=f"{published:.1f}"), measured, difference, _verdict(verdicts.of_number(subject, reduced=reduced))


def _verdict(verdict: str) -> Entry:
    return Entry(text=verdict, absent=verdict == verdicts.UNMEASURED)


def _estimated(subject: Subject, score: str) -> Entry:
    estimate = subject.estimate(score)
    if estimate is None:
        return DASH if subject.complete else MISSING
    return Entry(text=measure(score).text(estimate.mean), small=_reach(estimate, score))


def _reach(estimate: Estimate, score: str) -> str:
    """Return the interval as text, with what it is over."""
    if estimate.low is None or estimate.high is None:
        return counted(estimate.seeds, "seed")
    reach = interval(*map(measure(score).text, (estimate.low, estimate.high)))
    return f"{reach} over {_over(estimate)}"


def _over(estimate: Estimate) -> str:
    return estimate.over.replace("seeds", f"{estimate.seeds} seeds")


def _record(subject: Subject, score: str, *, reduced: bool) -> Record:
    estimate = subject.estimate(score)
    published = subject.row.published if score == "test_accuracy" else None
    return {
        # The column is called `figure`, the former name of a score, for programs that read the file.
        "row": subject.row.label, "chosen": subject.chosen, "figure": score, "unit": measure(score).unit,
        **in_columns(estimate), "published": published,
        "difference": None if published is None or estimate is None else round(estimate.mean - published, 4),
        "verdict": "" if published is None else verdicts.of_number(subject, reduced=reduced),
        "by_seed": " ".join(f"{seed}:{value:.6g}" for seed, value in subject.by_seed(score).items()),
        "cells": " ".join(config.cell_key(of_seed.cell) for of_seed in subject.findings),
    }  # fmt: skip


def _pages(findings: Sequence[Findings], folder: Path) -> Entry:
    """Return links to the pages of cells, as far as these exist."""
    links = []
    for of_seed in findings:
        page = of_seed.store.cell(config.cell_key(of_seed.cell)).product(REPORT)
        links.append((f"seed {of_seed.cell.seed}", os.path.relpath(page, folder) if page.exists() else ""))
    return Entry(links=links)


# ---------------------------------------------------------------------------------- claims


def claims(tests: Sequence[Tested], *, title: str) -> Table:
    """Return the table of claims: the words, the number with its interval, and the verdict."""
    lines, records = [], list[Record]()
    for test in tests:
        claim, estimate, score = test.claim, test.estimate, test.claim.score
        entries = [
            Entry(text=claim.source.replace(" ", "\N{NO-BREAK SPACE}", 1)),
            NOTHING if claim.published is None else Entry(text=signed(claim.published, 1)),
            Entry(text=_expected(claim.above, claim.below)),
            MISSING if estimate is None else Entry(text=signed(estimate.mean, measure(score).digits)),
            NOTHING if estimate is None else _claim_reach(estimate, measure(score).digits),
            NOTHING if estimate is None or estimate.p is None else Entry(text=p_values([estimate.p])),
            _verdict(test.verdict),
        ]
        lines.append(Line(name=claim.words, entries=entries))
        records.append(
            {"claim": claim.words, "source": claim.source, "figure": score, "unit": measure(score).unit,
             "published": claim.published, "above": claim.above, "below": claim.below, **in_columns(estimate),
             "p": None if estimate is None else estimate.p, "verdict": test.verdict}
        )  # fmt: skip
    head = ["claim", "source", "published", "holds if", "measured", "95 % interval", "p (two-sided)", "verdict"]
    return Table(title=title, head=head, lines=lines, records=records)


def _claim_reach(estimate: Estimate, digits: int) -> Entry:
    if estimate.low is None or estimate.high is None:
        return Entry(text="none (one seed)")
    reach = interval(signed(estimate.low, digits), signed(estimate.high, digits))
    return Entry(text=reach, small=f"over {_over(estimate)}")


def _expected(above: float, below: float) -> str:
    expected = f"> {above:g}" if below == float("inf") else f"{above:g} to {below:g}"
    return expected.replace("-", MINUS)


# ---------------------------------------------------------------------------------- progress


def summary(parts: Sequence[Part], read: Reader) -> Table:
    """Return the table of the progress of each part, and the counts of its verdicts."""
    lines, records = [], list[Record]()
    for part in parts:
        name, planned = part.section.name, part.section.every()
        done = sum(not read(cell).unfinished for cell in planned)
        of_numbers = Counter(
            verdicts.of_number(subject, reduced=part.section.reduced)
            for subject in part.subjects if subject.row.published is not None
        )  # fmt: skip
        of_claims = Counter(test.verdict for test in part.tests)
        entries = [Entry(text=text) for text in (f"{done} of {len(planned)}", _counts(of_numbers), _counts(of_claims))]
        lines.append(Line(name=name, entries=entries))
        records += [{"part": name, "what": "cells done", "count": done},
                    {"part": name, "what": "cells", "count": len(planned)}]  # fmt: skip
        records += [{"part": name, "what": what, "verdict": verdict, "count": count}
                    for what, counts in (("published number", of_numbers), ("claim", of_claims))
                    for verdict, count in counts.items()]  # fmt: skip
    head = ["", "cells done", "published numbers", "claims"]
    return Table(title="Progress and verdicts", head=head, lines=lines, records=records)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) or DASH.text
