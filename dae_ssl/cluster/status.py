"""Find the state of each node from the store, its log and SLURM's queue."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dae_ssl import lock
from dae_ssl.cluster.queue import Queued
from dae_ssl.cluster.submissions import Sent
from dae_ssl.compute.log import ASKED_TO, Entry, read
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.planning.plan import Plan, Spot
from dae_ssl.store import SCORES, Folder, Store

WORDS = ("done", "running", "waiting", "failed", "missing")
NO_FAILURE = ("COMPLETED", "CANCELLED", "PENDING", "RUNNING", "REQUEUED")
"""The states in SLURM's accounting that are not failures."""


@dataclass(frozen=True)
class Seen:
    """The state of a node: one of WORDS, and further detail."""

    word: str
    detail: str = ""
    log: Path | None = None
    """The file that shows why the node failed, if it did."""


def word(store: Store, plan: Plan, id: NodeId, active: Mapping[NodeId, tuple[Spot, Queued]]) -> str:
    """Return the state of a node, one of WORDS."""
    if id in plan.done:
        return "done"
    if id in active:
        return "waiting" if active[id][1].pending else "running"
    folder = store.node(*id)
    if not folder.path.exists():
        return "missing"
    if lock.holder(folder.lock) is not None:
        return "running"
    return "failed" if _error(folder) is not None else "missing"


def look(
    store: Store,
    plan: Plan,
    node: Node,
    active: Mapping[NodeId, tuple[Spot, Queued]],
    sent: Mapping[NodeId, Sent],
    ended: Mapping[str, str],
) -> Seen:
    """Return the state of a node with its score, its progress, the reason why it waits, or the reason why it failed.

    `sent` maps each node to its last submitted task, and `ended` maps tasks to their final states in SLURM's
    accounting, if there is any.
    """
    folder, task = store.node(*node.id), sent.get(node.id)
    seen = word(store, plan, node.id, active)
    details = {
        "done": lambda: _score(folder),
        "running": lambda: _progress(folder, node),
        "waiting": lambda: active[node.id][1].reason,
    }
    if seen in details:
        return Seen(seen, details[seen]())
    error = _error(folder)
    given_up = task is not None and [outcome["outcome"] for outcome in task.outcomes()][-1:] == ["given up"]
    if error is not None and not given_up:
        return Seen("failed", f"{error.fields['error']}: {error.fields['reason']}", task.printed if task else None)
    return _over(task, ended) if task else Seen("missing", _saved(folder))


def _saved(folder: Folder) -> str:
    """Return how far an interrupted node got, if it has a saved state; "" if not."""
    if not folder.states.is_dir():
        return ""
    steps = [entry.step for entry in read(folder.log) if entry.step is not None]
    return f"saved after epoch {max(steps)}" if steps else "saved within the first epoch"


def _over(task: Sent, ended: Mapping[str, str]) -> Seen:
    """Return how a task ended whose node's log does not say it.

    This comes from what its batch script recorded, if it ran to its end, and from SLURM's accounting, if there is any.
    """
    outcomes, state = task.outcomes(), ended.get(task.name)
    if outcomes and outcomes[-1]["outcome"] in ("failed", "given up", "not requeued"):
        return Seen("failed", _words(outcomes), task.printed)
    if state not in (None, *NO_FAILURE):
        return Seen("failed", f"SLURM says {state}", task.printed)
    return Seen("missing", f"SLURM says {state}" if state == "CANCELLED" else "")


def _words(outcomes: list[dict[str, object]]) -> str:
    last, killed = outcomes[-1], sum(outcome["outcome"] == "was killed" for outcome in outcomes)
    if last["outcome"] == "given up" and killed:
        return f"killed {killed + 1} times, last with exit code {last['code']} on {last['host']}: out of memory?"
    return f"{last['outcome']} with exit code {last['code']} on {last['host']}"


def _error(folder: Folder) -> Entry | None:
    """Return the event that ended a node's last attempt if it was an error; otherwise None."""
    last = None
    for entry in read(folder.log):
        last = entry if entry.event else last
    return last if last and last.event == "stopped" and last.fields["error"] not in ASKED_TO else None


def _score(folder: Folder) -> str:
    scores = (folder.record() or {}).get(SCORES, {})
    for name in ("test_accuracy", "kmeans_matched_accuracy"):
        if name in scores:
            return f"{100 * scores[name]:.2f} %"
    return ""


def _progress(folder: Folder, node: Node) -> str:
    """Return the epoch, the loss and the remaining time of a node that is being pretrained."""
    points = [entry for entry in read(folder.log) if entry.step is not None]
    if node.stage != "pretrain" or not points:
        return ""
    last, epochs = points[-1], node.cell.optimisation.epochs
    seconds = last.terms.get("epoch_seconds", 0.0) * (epochs - (last.step or 0)) - (time.time() - last.time)
    left = time.strftime("%H:%M:%S", time.gmtime(max(0.0, seconds)))
    return f"epoch {last.step}/{epochs}, loss {last.terms['loss']:.4g}, {left} left"
