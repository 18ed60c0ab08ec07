"""How far cells are: how many are measured, and what of it plans and `status` would compute again.

Pages show every score that was committed, since it was measured. Plans and `status` count a node as done only while it
is made from what its parent holds now and has what its readers need (`compute/done.py`). Where the two differ, pages
and `report` say by how much and why, in the words of this module.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dae_ssl import config
from dae_ssl.compute.done import Record, outdated
from dae_ssl.compute.nodes import Node, NodeId, counted, needed
from dae_ssl.config import Cell
from dae_ssl.report.findings import Findings, reader
from dae_ssl.store import SCORES, Store

ANEW = "what was read for them was computed anew"
GONE = "what was read for them is gone"
LEFT = "products of theirs that missing nodes read were left behind"


@dataclass(frozen=True)
class Standing:
    """How far some cells are."""

    cells: int
    measured: int
    """Cells whose nodes are all committed."""
    again: int
    """Measured cells that have nodes which would be computed again."""
    scores: int
    """Numbers that were measured, those of each node once."""
    scores_again: int
    """Those of nodes that would be computed again."""
    reasons: Mapping[NodeId, str]
    """Nodes that are committed and would be computed again, and why."""

    def line(self) -> str:
        """Return how many cells are measured, for a terminal."""
        more = f", {self.again} of them with nodes to be computed again, since {self._why()}" if self.again else ""
        return f"{self.measured} of {self.cells} cells are measured{more}"

    def sentence(self) -> str:
        """Return how many scores come from nodes that would be computed again, for a page; "" where none does."""
        if not self.scores_again:
            return ""
        come = "comes" if self.scores_again == 1 else "come"
        return (
            f"{self.scores_again} of the {self.scores} scores that were measured {come} from nodes that plans and "
            f"status would compute again, since {self._why()}; the scores are shown as they were measured."
        )

    def _why(self) -> str:
        return ", or ".join(reason for reason in (ANEW, GONE, LEFT) if reason in self.reasons.values())


def of_cells(cells: Iterable[Cell], store: Store) -> Standing:
    """Return how far cells are in a store."""
    return standing([*map(reader(store), cells)])


def standing(shown: Sequence[Findings]) -> Standing:
    """Return how far cells are, as found; each is taken once."""
    distinct = {config.cell_key(findings.cell): findings for findings in shown}
    wanted = needed(findings.cell for findings in distinct.values())
    records = {
        (stage, config.key(findings.cell, stage)): record
        for findings in distinct.values()
        for stage, record in findings.records.items()
    }
    reasons = _reasons(wanted, records)
    scores = {id: len(record.get(SCORES, {})) for id, record in records.items()}
    measured = [findings.cell for findings in distinct.values() if not findings.unfinished]
    return Standing(
        cells=len(distinct),
        measured=len(measured),
        again=sum(not reasons.keys().isdisjoint(config.keys(cell).items()) for cell in measured),
        scores=sum(scores.values()),
        scores_again=sum(scores[id] for id in reasons),
        reasons=reasons,
    )


def _reasons(wanted: Mapping[NodeId, Node], records: Mapping[NodeId, Record]) -> dict[NodeId, str]:
    """Return why nodes that are committed would be computed again, of those that would."""
    there = counted(wanted, records)
    reasons: dict[NodeId, str] = {}
    for id, node in wanted.items():  # parents first
        if id not in records or id in there:
            continue
        if node.parent is not None and node.parent not in records:
            reasons[id] = GONE
        elif node.parent is not None and outdated(records[id], records[node.parent]):
            reasons[id] = ANEW
        else:
            reasons[id] = LEFT if node.parent is None else reasons.get(node.parent, LEFT)
    return reasons
