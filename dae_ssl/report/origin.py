"""Where a cell's numbers come from: its settings, its nodes, what computed them, and what was out of the ordinary."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.report.command import differing
from dae_ssl.report.findings import Findings
from dae_ssl.report.markup import Content, missing, row, table, tag

FACTS = ("commit", "image", "device", "host", "ranks")
"""What a commit record says of the process that computed a node, beside versions and job."""


def settings(cell: Cell) -> Iterator[Element]:
    """Yield the table of all settings, those that differ from the study's defaults marked."""
    marked = differing(cell)
    rows = []
    for name, value in config.flat(config.settings(cell)).items():
        usual = f"differs: {_told(marked[name][1])}" if name in marked else "same"
        mark = "differs" if name in marked else None
        rows.append(row(tag("code", name), tag("code", _told(value)), usual, class_=mark))
    yield tag("h3", "Settings")
    yield table(["setting", "value", "default, the study's"], rows)


def provenance(own: Findings) -> Iterator[Element]:
    """Yield the table of the cell's nodes: keys, times, and what computed them."""
    stages = own.cell.stages()
    records = [own.records.get(stage) for stage in stages]
    facts: dict[str, list[Content]] = {
        "node": [tag("code", config.key(own.cell, stage)) for stage in stages],
        "state": ["done" if record else missing("missing") for record in records],
        "seconds worked": [f"{record['seconds']:.1f}" if record else "–" for record in records],
        "finished (UTC)": [_date(record["finished"]) if record else "–" for record in records],
    }
    for fact in FACTS:
        facts[fact] = [_fact(record, fact) for record in records]
    facts["SLURM"] = [_pairs(record, "slurm") for record in records]
    facts["versions"] = [_pairs(record, "versions") for record in records]
    facts["data (SHA-256)"] = [_digests(record) for record in records]
    yield tag("h3", "Nodes and what computed them")
    rows = [row(name, *contents, cell_class="long") for name, contents in facts.items()]
    yield table(["", *stages], rows)


def nodes_beside(floors: Sequence[Findings]) -> Iterator[Element]:
    """Yield the table of the floors' nodes."""
    if not floors:
        return
    rows = []
    for floor in floors:
        for stage in floor.cell.stages():
            record = floor.records.get(stage)
            state: Content = "done" if record else missing("missing")
            cells = (stage, tag("code", config.key(floor.cell, stage)), state)
            rows.append(row(floor.words, *cells, f"{record['seconds']:.1f}" if record else "–"))
    yield tag("h3", "Nodes of the floors")
    yield table(["floor", "stage", "node", "state", "seconds worked"], rows)


def deviations(own: Findings) -> Iterator[Element]:
    """Yield what is not as in the study, or not as in an uninterrupted run of one committed version.

    Method and seed are left out: they are what a study varies.
    """
    told = [
        f"{name} is {_told(value)}; the study's default is {_told(usual)}."
        for name, (value, usual) in differing(own.cell).items()
        if name != "seed" and not name.startswith("method.")
    ]
    records = own.records
    modified = [stage for stage, record in records.items() if str(record["commit"]).endswith("-modified")]
    if modified:
        told.append(f"Computed with uncommitted changes to the code: {', '.join(modified)}.")
    for fact in ("commit", "image", "versions"):
        if len({json.dumps(record[fact], sort_keys=True) for record in records.values()}) > 1:
            told.append(f"Not every stage was computed with the same {fact}; see the table below.")
    for stage in own.cell.stages():
        starts, stops = own.events(stage, "started"), own.events(stage, "stopped")
        if len(starts) > 1:
            told.append(f"{stage} was started {len(starts)} times; an interrupted run goes on where it was.")
        told += [f"{stage} stopped: {stop.fields.get('error')}, {stop.fields.get('reason')}." for stop in stops]
    yield tag("h3", "Deviations")
    none = "None so far: the study's defaults, no interruption, one committed version of the code."
    items = [tag("li", text) for text in told]
    yield (tag("ul", *items) if items else tag("p", none))


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _fact(record: dict[str, Any] | None, name: str) -> Content:
    if record is None:
        return "–"
    return "not recorded" if record[name] is None else str(record[name])


def _pairs(record: dict[str, Any] | None, name: str) -> Content:
    if record is None or not record[name]:
        return "–"
    return tag("span", *(part for key, value in record[name].items() for part in (f"{key} {value}", tag("br"))))


def _digests(record: dict[str, Any] | None) -> Content:
    inputs = (record or {}).get("inputs", {})
    lines = [f"{name} {split} {digest[:16]}…" for name, splits in inputs.items() for split, digest in splits.items()]
    return tag("span", *(part for line in lines for part in (line, tag("br")))) if lines else "–"
