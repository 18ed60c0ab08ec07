"""The life of a node: it is locked, logged, computed by its stage and committed; and a cell's nodes in order."""

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute import cells, disk, done, stages
from dae_ssl.compute.interrupt import Stopped, stop_requests
from dae_ssl.compute.log import Log, read
from dae_ssl.compute.provenance import provenance
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell
from dae_ssl.data import prepared
from dae_ssl.distributed import World, arithmetic
from dae_ssl.files import StoreError
from dae_ssl.lock import Locked, held
from dae_ssl.store import LEFT_BEHIND, RECORD, Store, products_digest
from dae_ssl.training.pretrain import Interrupted


def compute(cell: Cell, stage: str, context: Context) -> dict[str, Any]:
    """Compute one stage of a cell unless its node is done, and return the node's commit record.

    The first rank calls this; the other ranks of a pretraining call `follow`. Raises what the stage raises, after
    writing the reason to the node's log; a later call resumes from what is saved.
    """
    record = _computed(cell, stage, context)
    if not context.keep_features and "features" in (stage, cell.parent(stage)):
        _drop_features(cell, context)
    return record


def _computed(cell: Cell, stage: str, context: Context) -> dict[str, Any]:
    node, world = cells.nodes(cell, context.store)[stage], context.world
    record = _done(cell, stage, context)
    if record is None:
        cells.describe(cell, context.store)  # before reading, so that other processes see which nodes are needed
        _bring_back(cell, stage, context)
    with contextlib.ExitStack() as stack:
        if record is None:
            node.create()
            waiting = world.size == 1  # several ranks would wait in a collective operation, and run into its time limit
            lock = stack.enter_context(held(node.lock, wait=waiting, tell=context.tell, give_up=context.stop))
            record = _done(cell, stage, context)  # another process may have finished it while this one waited
        record = world.broadcast(record)
        if record is not None:
            return dict(record)
        _tell_why(cell, stage, context)
        if node.record() is not None:
            node.clear()  # it was made from products that its parent no longer has
        node.remove_leftovers()
        log = stack.enter_context(Log(node.log))
        source = provenance(world.device, world.size)
        log.event("started", stage=stage, key=node.key, **source)
        try:
            with arithmetic(world.device, cell.precision if stage == "pretrain" else "fp32"):
                facts = stages.STAGES[stage](cell, node, log, context)
        except BaseException as error:
            log.event("stopped", error=type(error).__name__, reason=str(error))
            raise
        lock.check()
        log.event("finished")
        settings = config.stage_settings(cell, stage)
        times = {"finished": time.time(), "seconds": _worked_seconds(node.log)}
        parent = parent_record(cell, stage, context.store)
        made_from = {"parent": products_digest(parent)} if parent else {}
        known = {"stage": stage, "key": node.key, "settings": settings} | source | times
        return node.commit(known | facts | made_from, context.memo.digests)


def _bring_back(cell: Cell, stage: str, context: Context) -> None:
    """Compute a stage's features again if they were dropped after the stage was planned."""
    above = parent_record(cell, stage, context.store) if cell.parent(stage) == "features" else None
    if above is not None and done.misses(cell, stage, above):
        compute(cell, "features", context)


def _drop_features(cell: Cell, context: Context) -> None:
    """Drop a cell's features if no node needs them any more; a failure to drop them is only reported."""
    described = context.memo.once(("described", context.store.root), lambda: disk.Descriptions(context.store))
    try:
        if freed := disk.drop_features(config.key(cell, "features"), described):
            context.tell(f"dropped the features ({disk.said(freed)}), since every node that reads them is done")
    except Locked:
        pass  # another process computes them again, and will drop them
    except StoreError as error:
        context.tell(f"features are not dropped: {error}")


def follow(cell: Cell, context: Context) -> None:
    """Take part in the pretraining of a cell as a rank other than the first."""
    if context.world.broadcast(None) is None:
        with arithmetic(context.world.device, cell.precision):
            stages.train(cell, cells.nodes(cell, context.store)["pretrain"], None, context)


def parent_record(cell: Cell, stage: str, store: Store) -> dict[str, Any] | None:
    """Return the commit record of the node that a stage reads; None if it reads none or that is not done."""
    parent = cell.parent(stage)
    return None if parent is None else cells.nodes(cell, store)[parent].record()


def _done(cell: Cell, stage: str, context: Context) -> dict[str, Any] | None:
    """Return the commit record of a finished node, or None. Raises StoreError if it was made from other images."""
    record = cells.current_records(cell, context.store).get(stage)
    for name, digests in (record or {}).get("inputs", {}).items():
        if prepared.digests(context.store, name) not in (None, digests):
            raise StoreError(
                f"{cells.nodes(cell, context.store)[stage].path} was computed from other images than those now "
                f"prepared as {name!r}: prepare these under another name, or delete the nodes made from the former ones"
            )
    return record


def _tell_why(cell: Cell, stage: str, context: Context) -> None:
    """Report why a node that was committed before is computed again."""
    node = cells.nodes(cell, context.store)[stage]
    committed, parent = node.record(), parent_record(cell, stage, context.store)
    if committed is None:
        if node.product(RECORD).exists():
            context.tell(f"{node.path} is damaged (a product is missing or has another size): computing it again")
    elif done.outdated(committed, parent):
        context.tell(f"{node.path} was made from an earlier {cell.parent(stage)} of this cell: computing it again")
    elif committed.get(LEFT_BEHIND):
        context.tell(f"{node.path} lacks a product that is needed now, which was left behind: computing it again")


def _worked_seconds(log: Path) -> float:
    """Return the seconds of work in all attempts at a node, each from its start to its last line in the log."""
    total = started = last = 0.0
    for entry in read(log):
        if entry.event == "started":
            total, started = total + last - started, entry.time
        last = entry.time
    return total + last - started


# ---------------------------------------------------------------------------------- a cell


def pretrain(cell: Cell, context: Context) -> None:
    """Pretrain on this rank, together with the other ranks of its world.

    Raises Stopped if a rank was asked to stop, after the state is saved; also if the request came after the last step.
    """
    with stop_requests() as request:
        asked = replace(context, stop=request)
        try:
            compute(cell, "pretrain", asked) if context.world.first else follow(cell, asked)
        except (Interrupted, Locked) as error:
            if isinstance(error, Locked) and not request():
                raise
            # If no signal reached this rank, another one was asked to stop.
            raise Stopped(request.number or signal.SIGTERM, str(error)) from None
        if request.number is not None:
            raise Stopped(request.number, "stopped after pretraining")


def evaluate(cell: Cell, context: Context, begin: Callable[[str], None] = lambda _stage: None) -> None:
    """Compute the stages after pretraining in one process; nodes that are done are not computed again.

    `begin` is called with each stage before it is computed.
    """
    alone = replace(context, world=World(0, 1, context.world.device))
    for stage in cell.stages():
        if stage != "pretrain" or not cell.method.trains:
            begin(stage)
            compute(cell, stage, alone)
