"""The life of a node: locked, logged, computed by its stage, committed; and a cell's nodes in order."""

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

    The first rank calls it, the others of a pretraining call `follow`. Raises what the stage raises, after writing the
    reason to the node's log; a later call goes on from what is there.
    """
    record = _computed(cell, stage, context)
    if not context.keep_features and "features" in (stage, cell.parent(stage)):
        _drop_features(cell, context)
    return record


def _computed(cell: Cell, stage: str, context: Context) -> dict[str, Any]:
    node, world = cells.nodes(cell, context.store)[stage], context.world
    record = _done(cell, stage, context)
    if record is None:
        cells.describe(cell, context.store)  # before anything is read, by which others know what is needed
        _bring_back(cell, stage, context)
    with contextlib.ExitStack() as stack:
        if record is None:
            node.create()
            waiting = world.size == 1  # several ranks would wait in an exchange, and run into its time limit
            lock = stack.enter_context(held(node.lock, wait=waiting, tell=context.tell, give_up=context.stop))
            record = _done(cell, stage, context)  # another process may have finished it while this one waited
        record = world.broadcast(record)
        if record is not None:
            return dict(record)
        _tell_why(cell, stage, context)
        if node.record() is not None:
            node.clear()  # made from products of its parent that are no longer there
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
    """Have the features computed again that a stage reads, where they were dropped after this was planned."""
    above = parent_record(cell, stage, context.store) if cell.parent(stage) == "features" else None
    if above is not None and done.misses(cell, stage, above):
        compute(cell, "features", context)


def _drop_features(cell: Cell, context: Context) -> None:
    """Drop a cell's features if nobody needs them any more; what keeps them here is no reason to fail."""
    described = context.memo.once(("described", context.store.root), lambda: disk.Descriptions(context.store))
    try:
        if freed := disk.drop_features(config.key(cell, "features"), described):
            context.tell(f"features dropped, {disk.said(freed)}: every node that reads them is done")
    except Locked:
        pass  # computed anew for somebody, who will see to it
    except StoreError as error:
        context.tell(f"features are not dropped: {error}")


def follow(cell: Cell, context: Context) -> None:
    """Take part in the pretraining of a cell as one of the ranks that are not the first."""
    if context.world.broadcast(None) is None:
        with arithmetic(context.world.device, cell.precision):
            stages.train(cell, cells.nodes(cell, context.store)["pretrain"], None, context)


def parent_record(cell: Cell, stage: str, store: Store) -> dict[str, Any] | None:
    """Return the commit record of the node that a stage reads; None if there is none or it is not done."""
    parent = cell.parent(stage)
    return None if parent is None else cells.nodes(cell, store)[parent].record()


def _done(cell: Cell, stage: str, context: Context) -> dict[str, Any] | None:
    """Return the commit record of a finished node, or None. Raises StoreError if it was made from other images."""
    record = cells.current_records(cell, context.store).get(stage)
    for name, digests in (record or {}).get("inputs", {}).items():
        if prepared.digests(context.store, name) not in (None, digests):
            raise StoreError(
                f"{cells.nodes(cell, context.store)[stage].path} was computed from other images than those "
                f"now prepared as {name!r}: prepare these under another name, or delete the nodes made from the others"
            )
    return record


def _tell_why(cell: Cell, stage: str, context: Context) -> None:
    """Tell why a node that was committed before has to be computed again."""
    node = cells.nodes(cell, context.store)[stage]
    committed, parent = node.record(), parent_record(cell, stage, context.store)
    if committed is None:
        if node.product(RECORD).exists():
            context.tell(f"{node.path} is damaged (a product is missing or has another size): computing it again")
    elif done.outdated(committed, parent):
        context.tell(f"{node.path} was made from an earlier {cell.parent(stage)} of this cell: computing it again")
    elif committed.get(LEFT_BEHIND):
        context.tell(f"{node.path} does not have what is to be read, which was left behind: computing it again")


def _worked_seconds(log: Path) -> float:
    """Return the seconds worked on a node in all its attempts, each from its start to its last line in the log."""
    total = started = last = 0.0
    for entry in read(log):
        if entry.event == "started":
            total, started = total + last - started, entry.time
        last = entry.time
    return total + last - started


# ---------------------------------------------------------------------------------- a cell


def pretrain(cell: Cell, context: Context) -> None:
    """Pretrain on this rank, together with the others of its world.

    Raises Stopped when a rank was asked to stop, once the state is saved; also where the request came too late for the
    loop to see.
    """
    with stop_requests() as request:
        asked = replace(context, stop=request)
        try:
            compute(cell, "pretrain", asked) if context.world.first else follow(cell, asked)
        except (Interrupted, Locked) as error:
            if isinstance(error, Locked) and not request():
                raise
            # Another rank may be the one that was asked.
            raise Stopped(request.number or signal.SIGTERM, str(error)) from None
        if request.number is not None:
            raise Stopped(request.number, "stopped after pretraining")


def evaluate(cell: Cell, context: Context, begin: Callable[[str], None] = lambda _stage: None) -> None:
    """Compute the stages after pretraining, on one process; what is done already is not computed again.

    `begin` is called with each stage before it is computed.
    """
    alone = replace(context, world=World(0, 1, context.world.device))
    for stage in cell.stages():
        if stage != "pretrain" or not cell.method.trains:
            begin(stage)
            compute(cell, stage, alone)
