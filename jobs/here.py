"""Compute an experiment on this machine, which is what `dae-ssl submit` does with a local profile."""

import shlex
import sys
from collections.abc import Callable, Collection, Sequence

from dae_ssl import config
from dae_ssl.compute import running
from dae_ssl.compute.interrupt import Budget
from dae_ssl.compute.running import Outcome
from dae_ssl.config import Cell
from dae_ssl.planning import room
from dae_ssl.planning.plan import chosen, make
from dae_ssl.tracking import lane, server
from jobs.asked import Asked
from jobs.results import Kept
from jobs.terminal import Board


def compute(asked: Asked, again: Callable[[], Asked], began: float) -> int:
    """Compute what is missing, report the outcome, and return the exit code.

    Results may add cells, since a grid is extended if its best value is at its edge: `again` then returns the new
    request. The minutes of `--minutes` count from `began` on the monotonic clock.
    """
    latest, board = asked, Board(_labels(asked))
    kept = None if asked.options["archive"] is None else Kept.archive(asked)

    def more() -> Sequence[Cell]:
        nonlocal latest
        latest = again()
        board.labels = _labels(latest)
        return latest.cells

    def keep(cells: Collection[Cell]) -> None:
        if kept is not None:
            kept.write(latest, cells)

    server.copied_here(asked.store.root)
    profile, budget = asked.profile, Budget(asked.options["minutes"], began=began)
    outcome = running.run(
        asked.cells, asked.store, parallel=asked.options["parallel"], device=profile.device,
        stages=chosen(asked.options["only"]), budget=budget, again=more, keep=keep, show=board,
        resources=profile.stages.pretrain, save_seconds=profile.save_seconds, max_failures=profile.max_failures,
        keep_features=_keeps_features(asked, budget), start=lane.command(asked.mlflow_experiment),
    )  # fmt: skip
    _say(outcome, budget, shlex.join(asked.same))
    return outcome.code


def _keeps_features(asked: Asked, budget: Budget) -> bool:
    planned = make(asked.cells, asked.store, asked.profile)
    return room.keeps(planned, asked.profile, asked.store, budget.minutes)


def _say(outcome: Outcome, budget: Budget, same_cells: str) -> None:
    """Print the outcome and the next command, with the arguments with which it finds the same cells."""
    if outcome.failed:
        print(f"{outcome.failed} nodes failed; to see why: dae-ssl status {same_cells}", file=sys.stderr)
    if outcome.stopped is None and outcome.over:
        continues = "" if outcome.failed else "; the same command continues"
        print(f"stopped after {budget.minutes:g} minutes; {outcome.left} nodes are left{continues}")
    elif not outcome.left and outcome.stopped is None:
        state = "everything is computed" if outcome.computed else "nothing is missing"
        print(f"{state}; to draw the page: dae-ssl report {same_cells}")


def _labels(asked: Asked) -> dict[str, str]:
    """Return the labels of the cells, by key."""
    return {config.cell_key(cell): label for label, cell in asked.labelled}
