"""Which node is next, and what becomes of those that need one which failed."""

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute.nodes import Node, NodeId, needed
from dae_ssl.compute.order import Finished, Order
from dae_ssl.compute.processes import DONE, FAILED, TRY_AGAIN
from tests.compute.played import ALL, cell, name, nodes


def test_lane_finishes_the_cell_that_it_has_and_others_begin_the_next() -> None:
    order, had = Order(nodes(3), 3), (set[NodeId](), set[NodeId]())

    def taken(lane: int) -> Node:
        node = order.next(ALL, had[lane])
        assert node is not None
        had[lane].add(node.id)
        return node

    first, second = taken(0), taken(1)
    assert (name(first), name(second)) == ("pretrain 0", "pretrain 1")
    assert order.next(ALL - {"pretrain"}, had[0]) is None, "its parent is under way"
    order.ended(first, TRY_AGAIN)
    order.ended(second, DONE)
    second = taken(1)
    assert name(second) == "features 1", "though cell 0 has to begin again, and cell 2 could begin"
    order.ended(second, DONE)
    assert [name(taken(1)), name(taken(1))] == ["probe 1", "kmeans 1"]
    assert [name(taken(0)), name(taken(1))] == ["pretrain 0", "pretrain 2"]
    assert order.next(ALL, had[1]) is None
    order.ended(first, DONE)
    assert name(taken(0)) == "features 0"


def test_what_fails_takes_its_own_dependents_with_it_and_no_others() -> None:
    order = Order(nodes(2), 3)
    first = order.next(ALL, set())
    assert first is not None
    order.ended(first, FAILED)
    assert [order.states[node.id] for node in order.nodes] == ["failed", *["left out"] * 3, *["waiting"] * 4]


def test_parent_that_is_not_in_the_order_is_there() -> None:
    order = Order([node for node in nodes(1) if node.stage in ("probe", "kmeans")], 3)
    assert [name(node) for node in iter(lambda: order.next(ALL, set()), None)] == ["probe 0", "kmeans 0"]


def test_cells_are_handed_on_first_as_they_were_and_then_each_once_it_is_finished() -> None:
    cells = [cell(0), cell(1)]
    finished = Finished(cells, {node.id for node in nodes(2)})
    assert list(finished.due.values()) == cells
    finished.due.clear()
    *first, last = nodes(1)
    finished.note(first)
    assert (list(finished.due.values()), list(finished.begun.values())) == ([], cells[:1])
    finished.note([])
    finished.note([last])
    assert (list(finished.due.values()), list(finished.begun.values())) == (cells[:1], [])


def test_node_that_cells_share_finishes_all_of_them() -> None:
    shared = [config.cell({}, method={"name": "ae"}, probe={"epochs": epochs}) for epochs in (1, 2)]
    (pretrain, features), probes, kmeans = (
        [node for node in needed(shared).values() if node.stage in stages]
        for stages in (("pretrain", "features"), ("probe",), ("kmeans",))
    )
    finished = Finished(shared, {node.id for node in needed(shared).values()}, due={})
    finished.due.clear()
    finished.note([pretrain, features, *probes])
    assert list(finished.due.values()) == []
    finished.note(kmeans)
    assert list(finished.due.values()) == shared
