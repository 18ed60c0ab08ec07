"""The tables of an experiment: its rows beside what was published, and its claims with their statistics."""

import os
from collections.abc import Sequence
from pathlib import Path

from dae_ssl import config
from dae_ssl.experiments.form import Numbers
from dae_ssl.report import measures, verdicts
from dae_ssl.report.findings import Findings
from dae_ssl.report.significance import Estimate, told_p
from dae_ssl.report.subjects import Subject
from dae_ssl.report.tables import MISSING, NOTHING, Entry, Record, Table
from dae_ssl.report.verdicts import Tested
from dae_ssl.store import REPORT


def numbers(exhibit: Numbers, subjects: Sequence[Subject], *, reduced: bool, folder: Path) -> Table:
    """Return the table of some figures of rows and floors; `folder` is where links lead from."""
    known = "test_accuracy" in exhibit.scores and any(one.published is not None for one in subjects)
    head = [""]
    for figure in exhibit.scores:
        head += ["published"] if figure == "test_accuracy" and known else []
        head.append(measures.measure(figure).axis)
        head += ["difference", "verdict"] if figure == "test_accuracy" and known else []
    head.append("cells")
    rows, records = [], list[Record]()
    for subject in subjects:
        entries = []
        for figure in exhibit.scores:
            beside = _beside(subject, reduced=reduced) if figure == "test_accuracy" and known else None
            own = _estimated(subject, figure)
            entries += [own] if beside is None else [beside[0], own, *beside[1:]]
            records.append(_record(subject, figure, reduced=reduced))
        rows.append((_name(subject), [*entries, _pages(subject.found, folder)]))
    return Table(title=exhibit.title, head=head, rows=rows, records=records)


def _name(subject: Subject) -> str:
    chosen = f" ({subject.chosen})" if subject.chosen else ""
    return f"floor: {subject.label}" if subject.floor else f"{subject.label}{chosen}"


def _beside(subject: Subject, *, reduced: bool) -> tuple[Entry, Entry, Entry]:
    """Return the published number, how far the measured one is from it, and the verdict."""
    if subject.published is None:
        return Entry(text="–"), NOTHING, NOTHING
    measured = subject.estimate("test_accuracy")
    verdict = verdicts.of_number(subject.published, measured, reduced=reduced, chosen=subject.settled)
    difference = "–" if measured is None else signed(measured.mean - subject.published, 2)
    return (
        Entry(text=f"{subject.published:.1f}"),
        Entry(text=difference),
        Entry(text=verdict, absent=verdict == verdicts.UNMEASURED),
    )


def _estimated(subject: Subject, figure: str) -> Entry:
    estimate = subject.estimate(figure)
    if estimate is None:
        return Entry(text="–") if subject.complete else MISSING
    told = measures.measure(figure).told
    return Entry(text=told(estimate.mean), small=_reach(estimate, figure))


def _reach(estimate: Estimate, figure: str) -> str:
    """Return the interval and over what it is, as people read it."""
    seeds = f"{estimate.seeds} seed{'s' if estimate.seeds > 1 else ''}"
    if estimate.low is None or estimate.high is None:
        return seeds
    told = measures.measure(figure).told
    return f"[{told(estimate.low)}, {told(estimate.high)}] over {_over(estimate)}"


def _over(estimate: Estimate) -> str:
    return estimate.over.replace("seeds", f"{estimate.seeds} seeds")


def _record(subject: Subject, figure: str, *, reduced: bool) -> Record:
    known = subject.published is not None and figure == "test_accuracy"
    estimate = subject.estimate(figure)
    published = subject.published if known else None
    verdict = ""
    if published is not None:
        verdict = verdicts.of_number(published, estimate, reduced=reduced, chosen=subject.settled)
    return {
        "row": subject.label, "chosen": subject.chosen, "figure": figure, "unit": measures.measure(figure).unit,
        **in_columns(estimate), "published": published,
        "difference": None if published is None or estimate is None else round(estimate.mean - published, 4),
        "verdict": verdict,
        "by_seed": " ".join(f"{seed}:{value:.6g}" for seed, value in subject.by_seed(figure).items()),
        "cells": " ".join(config.cell_key(one.cell) for one in subject.found),
    }  # fmt: skip


def in_columns(estimate: Estimate | None) -> Record:
    """Return an estimate as columns of a CSV file."""
    if estimate is None:
        return {"mean": None, "low": None, "high": None, "seeds": 0, "interval_over": "not yet measured"}
    edges = {"low": estimate.low, "high": estimate.high}
    rounded = {name: None if edge is None else round(edge, 6) for name, edge in edges.items()}
    return {"mean": round(estimate.mean, 6), **rounded, "seeds": estimate.seeds, "interval_over": estimate.over}


def _pages(found: Sequence[Findings], folder: Path) -> Entry:
    """Return links to the pages of cells, as far as there are any."""
    links = []
    for one in found:
        page = one.place.cell(config.cell_key(one.cell)).product(REPORT)
        links.append((f"seed {one.cell.seed}", os.path.relpath(page, folder) if page.exists() else ""))
    return Entry(links=links)


def claims(tests: Sequence[Tested], *, title: str) -> Table:
    """Return the table of claims: what is said, the number that tells, how sure it is, and whether it holds."""
    rows, records = [], list[Record]()
    for one in tests:
        claim, estimate, figure = one.claim, one.estimate, one.claim.score
        measured = MISSING if estimate is None else Entry(text=signed(estimate.mean, _digits(figure)))
        reach = NOTHING if estimate is None else _claim_reach(estimate, figure)
        published = NOTHING if claim.published is None else Entry(text=signed(claim.published, 1))
        source = claim.source.replace(" ", "\N{NO-BREAK SPACE}", 1)
        p = Entry(text=told_p([estimate.p])) if estimate is not None and estimate.p is not None else NOTHING
        verdict = Entry(text=one.verdict, absent=one.verdict == verdicts.UNMEASURED)
        expected = Entry(text=_expected(claim.above, claim.below))
        rows.append((claim.words, [Entry(text=source), published, expected, measured, reach, p, verdict]))
        records.append(
            {"claim": claim.words, "source": claim.source, "figure": figure, "unit": measures.measure(figure).unit,
             "published": claim.published, "above": claim.above, "below": claim.below, **in_columns(estimate),
             "p": None if estimate is None else estimate.p, "verdict": one.verdict}
        )  # fmt: skip
    head = ["claim", "source", "published", "holds if", "measured", "95 % interval", "p, if truly 0", "verdict"]
    return Table(title=title, head=head, rows=rows, records=records)


def _claim_reach(estimate: Estimate, figure: str) -> Entry:
    if estimate.low is None or estimate.high is None:
        return Entry(text="none: one seed")
    digits = _digits(figure)
    interval = f"[{signed(estimate.low, digits)}, {signed(estimate.high, digits)}]"
    return Entry(text=interval, small=f"over {_over(estimate)}")


def _digits(figure: str) -> int:
    return measures.measure(figure).digits


def _expected(above: float, below: float) -> str:
    told = f"> {above:g}" if below == float("inf") else f"{above:g} to {below:g}"
    return told.replace("-", "−")


def signed(value: float, digits: int) -> str:
    """Return a number with a sign that is as wide as a plus."""
    return f"{value:+.{digits}f}".replace("-", "−")
