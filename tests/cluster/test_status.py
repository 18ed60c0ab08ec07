"""The state of a node in a word, from the store, its log and the queue, and the detail that is worth knowing."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dae_ssl import config
from dae_ssl.cluster import launch, status, submissions
from dae_ssl.cluster.queue import Queued
from dae_ssl.cluster.status import Seen
from dae_ssl.compute.log import ASKED_TO, Log
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.lock import held
from dae_ssl.planning.plan import Plan, Spot
from dae_ssl.planning.profile import Profile
from dae_ssl.store import OUTCOMES, SCORES, Folder, Store
from tests.planning.planned import GPU4, commit, dae, planned

CELL = dae(optimisation={"epochs": 10})
PRETRAIN = ("pretrain", config.key(CELL, "pretrain"))
FOREVER = 10.0


class Asked:
    """A store with one cell, and what is asked of the state of its nodes."""

    def __init__(self, root: Path) -> None:
        self.store, self.root = Store(root), root
        self.folder: Folder = self.store.node(*PRETRAIN)
        self.ended: dict[str, str] = {}
        self.active: dict[NodeId, tuple[Spot, Queued]] = {}

    def plan(self) -> Plan:
        return planned([CELL], self.root)

    def seen(self, stage: str = "pretrain") -> Seen:
        plan, sent = self.plan(), submissions.sent(self.store)
        node: Node = plan.wanted[stage, config.key(CELL, stage)]
        found = status.look(self.store, plan, node, self.active, sent, self.ended)
        assert found.word == status.word(self.store, plan, node.id, self.active) or sent, "one rule for both"
        return found

    def queued(self, state: str, reason: str = "") -> None:
        self.active = {PRETRAIN: (Spot("17", 0), Queued("17", 0, state, reason, "", ""))}

    def log(self, *events: tuple[str, dict[str, Any]], losses: tuple[float, ...] = ()) -> None:
        self.folder.create()
        with Log(self.folder.log) as log:
            for step, loss in enumerate(losses, 1):
                log(step, {"loss": loss, "epoch_seconds": FOREVER})
            for kind, fields in events:
                log.event(kind, **fields)

    def send(self, *outcomes: str, code: int = 137) -> None:
        """Forge a submission whose first array is job 17, and how the attempts at its only task ended."""
        made = launch.intend(self.plan(), self.store, Profile.of("t", GPU4), experiment="alpha", mlflow_experiment="m")
        made.settle("pretrain-0", "17")
        lines = [{"task": "17_0", "outcome": outcome, "code": code, "host": "node1"} for outcome in outcomes]
        made.folder.product(OUTCOMES).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_node_that_nobody_began_is_missing(asked: Asked) -> None:
    assert asked.seen() == Seen("missing")


def test_node_that_is_done_tells_its_score(asked: Asked) -> None:
    commit(asked.root, CELL, "pretrain", "features")
    probe = asked.store.node("probe", config.key(CELL, "probe"))
    probe.create()
    probe.commit({SCORES: {"test_accuracy": 0.69714}})
    assert asked.seen("probe") == Seen("done", "69.71 %")
    assert asked.seen("features") == Seen("done")


@pytest.mark.parametrize(("state", "word"), [("PENDING", "waiting"), ("REQUEUED", "waiting"), ("RUNNING", "running")])
def test_node_that_slurm_has_waits_or_runs(state: str, word: str, asked: Asked) -> None:
    asked.queued(state, "Priority")
    assert asked.seen() == Seen(word, "Priority" if word == "waiting" else "")


def test_node_that_is_computed_tells_epoch_loss_and_time_left(asked: Asked) -> None:
    asked.log(losses=(0.5, 0.25))
    with held(asked.folder.lock):
        word, detail = asked.seen().word, asked.seen().detail
    assert (word, detail.startswith("epoch 2/10, loss 0.25, ")) == ("running", True)
    left = time.strptime(detail.split()[-2], "%H:%M:%S")
    assert 8 * FOREVER - 20 <= left.tm_min * 60 + left.tm_sec <= 8 * FOREVER


def test_node_whose_log_ends_in_an_error_failed(asked: Asked) -> None:
    asked.log(("stopped", {"error": "Diverged", "reason": "the loss is not finite"}))
    assert asked.seen() == Seen("failed", "Diverged: the loss is not finite")


@pytest.mark.parametrize("error", ASKED_TO)
def test_node_that_was_asked_to_stop_did_not_fail_and_tells_what_is_saved(error: str, asked: Asked) -> None:
    asked.log(("stopped", {"error": error, "reason": "SIGTERM"}), losses=(0.5, 0.25, 0.2))
    assert asked.seen() == Seen("missing")
    asked.folder.states.mkdir()
    assert asked.seen() == Seen("missing", "saved after epoch 3")


def test_error_that_was_followed_by_another_attempt_is_over(asked: Asked) -> None:
    asked.log(("stopped", {"error": "Diverged", "reason": "x"}), ("started", {}))
    assert asked.seen() == Seen("missing")


def test_task_that_was_killed_again_and_again_tells_how_often(asked: Asked) -> None:
    asked.send("was killed", "was killed", "given up")
    found = asked.seen()
    told = "killed 3 times, last with exit code 137 on node1: out of memory?"
    assert (found.word, found.detail, found.log and found.log.name) == ("failed", told, "17_0_0_log.out")


@pytest.mark.parametrize(
    ("state", "word", "detail"),
    [("OUT_OF_MEMORY", "failed", "SLURM says OUT_OF_MEMORY"), ("CANCELLED", "missing", "SLURM says CANCELLED"),
     ("COMPLETED", "missing", ""), (None, "missing", "")],
)  # fmt: skip
def test_task_of_which_the_log_tells_nothing_ended_as_accounting_says(
    state: str | None, word: str, detail: str, asked: Asked
) -> None:
    asked.send()
    asked.ended = {} if state is None else {"17_0": state}
    assert (asked.seen().word, asked.seen().detail) == (word, detail)
