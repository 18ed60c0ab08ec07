"""Count the cells that are measured, and the scores that would be computed again.

Pages show every committed score, since it was measured. `plan` and `status` count a node as done only if it is current,
which means that it was made from what its parent holds now, and if it has what its readers need (`compute/done.py`).
If the two differ, pages and `report` say by how much and why, in the words of this module.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dae_ssl import config
from dae_ssl.compute.done import Record, outdated
from dae_ssl.compute.nodes import Node, NodeId, counted, needed
from dae_ssl.config import Cell
from dae_ssl.report.findings import Findings, reader
from dae_ssl.store import SCORES, Store

ANEW = "their parents have been computed again"
GONE = "their parents no longer exist"
LEFT = "missing nodes need products of theirs that were dropped or not loaded"


@dataclass(frozen=True)
class Standing:
    """The progress of some cells."""

    cells: int
    measured: int
    """The number of cells whose nodes are all committed."""
    again: int
    """The number of measured cells with nodes that would be computed again."""
    scores: int
    """The number of measured scores; those of a shared node count once."""
    scores_again: int
    """The number of scores of nodes that would be computed again."""
    reasons: Mapping[NodeId, str]
    """The committed nodes that would be computed again, and why."""

    def line(self) -> str:
        """Return one line for a terminal on how many cells are measured."""
        more = (
            f"; {self.again} of them {'has' if self.again == 1 else 'have'} nodes to compute again, since {self._why()}"
        )
        return f"{self.measured} of {self.cells} cells are measured{more if self.again else ''}"

    def sentence(self) -> str:
        """Return a sentence for a page on the scores of nodes that would be computed again; "" if there are none."""
        if not self.scores_again:
            return ""
        come = "comes" if self.scores_again == 1 else "come"
        return (
            f"{self.scores_again} of the {self.scores} measured scores {come} from nodes that `dae-ssl submit` would "
            f"compute again, since {self._why()}. The scores are shown as they were measured."
        )

    def _why(self) -> str:
        return ", or ".join(reason for reason in (ANEW, GONE, LEFT) if reason in self.reasons.values())


def of_cells(cells: Iterable[Cell], store: Store) -> Standing:
    """Return the progress of cells in a store."""
    return standing([*map(reader(store), cells)])


def standing(shown: Sequence[Findings]) -> Standing:
    """Return the progress of cells from their findings; a cell that occurs twice counts once."""
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
    """Return the committed nodes that would be computed again, with the reason."""
    done = counted(wanted, records)
    reasons: dict[NodeId, str] = {}
    for id, node in wanted.items():  # parents first
        if id not in records or id in done:
            continue
        if node.parent is not None and node.parent not in records:
            reasons[id] = GONE
        elif node.parent is not None and outdated(records[id], records[node.parent]):
            reasons[id] = ANEW
        else:
            reasons[id] = LEFT if node.parent is None else reasons.get(node.parent, LEFT)
    return reasons
