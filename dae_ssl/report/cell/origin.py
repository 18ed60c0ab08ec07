"""Show where a cell's scores come from: its settings, its nodes, what computed them, and deviations."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from dae_ssl import config
from dae_ssl.compute.command import DATA, PROGRAM, STORE, differing, on_ranks, run_again
from dae_ssl.config import Cell
from dae_ssl.report.findings import Findings
from dae_ssl.report.markup import tag
from dae_ssl.report.numbers import setting, utc
from dae_ssl.report.standing import Standing
from dae_ssl.report.table import DASH, Entry, Line, Table

FACTS = ("commit", "image", "device", "host", "ranks")
"""The facts in a commit record on the process that computed a node, in addition to versions and job."""
Record = Mapping[str, Any]


def again(findings: Findings) -> Iterator[Element]:
    """Yield the command that computes the cell again."""
    data = " and ".join(sorted({findings.cell.data.pretrain, findings.cell.data.evaluate}))
    ranks = findings.records.get("pretrain", {}).get("ranks", 1)
    launcher = f" Pretraining ran on {ranks} ranks: replace {PROGRAM} by {on_ranks(ranks)} "
    launcher += "to add the same numbers in the same order."
    yield tag("h3", "How to run it again")
    yield tag("pre", tag("code", run_again(findings.cell)))
    yield tag("p", f"This needs {data} prepared in the store ({DATA}); {STORE} names the store."
                   f"{launcher if ranks > 1 else ''}", class_="note")  # fmt: skip


def settings(cell: Cell) -> Iterator[Element]:
    """Yield the table of all settings, in which those that differ from the study's defaults are marked."""
    marked = differing(cell)
    lines = []
    for name, value in config.flat(config.settings(cell)).items():
        usual = f"differs: {setting(marked[name][1])}" if name in marked else "same"
        entries = [Entry(text=setting(value), code=True), Entry(text=usual)]
        lines.append(Line(name=name, code=True, entries=entries, style="differs" if name in marked else ""))
    yield from Table(title="Settings", head=["setting", "value", "default (the study's)"], lines=lines).titled()


def provenance(findings: Findings, standing: Standing) -> Iterator[Element]:
    """Yield the table of the cell's nodes: keys, times, and what computed them."""
    stages = findings.cell.stages()
    records = [findings.records.get(stage) for stage in stages]
    facts = {
        "node": [Entry(text=config.key(findings.cell, stage), code=True) for stage in stages],
        "state": [_state(findings, stage, standing) for stage in stages],
        "seconds worked": [_seconds(record) for record in records],
        "finished (UTC)": [Entry(text=utc(record["finished"])) if record else DASH for record in records],
    }
    facts |= {fact: [_fact(record, fact) for record in records] for fact in FACTS}
    facts["SLURM"] = [_pairs(record, "slurm") for record in records]
    facts["versions"] = [_pairs(record, "versions") for record in records]
    facts["data (SHA-256)"] = [_digests(record) for record in records]
    lines = [Line(name=name, entries=entries) for name, entries in facts.items()]
    yield from Table(title="Nodes and what computed them", head=["", *stages], lines=lines, wraps=True).titled()


def nodes_beside(floors: Sequence[Findings], standing: Standing) -> Iterator[Element]:
    """Yield the table of the floors' nodes."""
    if not floors:
        return
    lines = []
    for floor in floors:
        for stage in floor.cell.stages():
            key = Entry(text=config.key(floor.cell, stage), code=True)
            state, seconds = _state(floor, stage, standing), _seconds(floor.records.get(stage))
            lines.append(Line(name=floor.name, entries=[Entry(text=stage), key, state, seconds]))
    head = ["floor", "stage", "node", "state", "seconds worked"]
    yield from Table(title="Nodes of the floors", head=head, lines=lines).titled()


def deviations(findings: Findings) -> Iterator[Element]:
    """Yield the deviations from the study's defaults, and from an uninterrupted run of one committed version.

    Method and seed are left out, since a study varies them.
    """
    sentences = [
        f"{name} is {setting(value)}; the study's default is {setting(usual)}."
        for name, (value, usual) in differing(findings.cell).items()
        if name != "seed" and not name.startswith("method.")
    ]
    records = findings.records
    modified = [stage for stage, record in records.items() if str(record["commit"]).endswith("-modified")]
    if modified:
        sentences.append(f"Computed with uncommitted changes to the code: {', '.join(modified)}.")
    for fact in ("commit", "image", "versions"):
        if len({json.dumps(record[fact], sort_keys=True) for record in records.values()}) > 1:
            sentences.append(f"The stages were computed with different values of {fact}; see the table below.")
    for stage in findings.cell.stages():
        starts, stops = findings.events(stage, "started"), findings.events(stage, "stopped")
        if len(starts) > 1:
            sentences.append(f"{stage} was started {len(starts)} times; an interrupted run resumes where it stopped.")
        sentences += [f"{stage} stopped: {stop.fields.get('error')}, {stop.fields.get('reason')}." for stop in stops]
    yield tag("h3", "Deviations")
    none = "There are none so far: study defaults, no interruption, and one committed version of the code."
    items = [tag("li", sentence) for sentence in sentences]
    yield (tag("ul", *items) if items else tag("p", none))


def _state(shown: Findings, stage: str, standing: Standing) -> Entry:
    if stage not in shown.records:
        return Entry(text="missing", absent=True)
    reason = standing.reasons.get((stage, config.key(shown.cell, stage)))
    return Entry(text="done") if reason is None else Entry(text=f"done; will be computed again, since {reason}")


def _seconds(record: Record | None) -> Entry:
    return Entry(text=f"{record['seconds']:.1f}") if record else DASH


def _fact(record: Record | None, name: str) -> Entry:
    if record is None:
        return DASH
    return Entry(text="not recorded" if record[name] is None else str(record[name]))


def _pairs(record: Record | None, name: str) -> Entry:
    if record is None or not record[name]:
        return DASH
    return Entry(lines=[f"{key} {value}" for key, value in record[name].items()])


def _digests(record: Record | None) -> Entry:
    inputs = (record or {}).get("inputs", {})
    lines = [f"{name} {split} {digest[:16]}…" for name, splits in inputs.items() for split, digest in splits.items()]
    return Entry(lines=lines) if lines else DASH
