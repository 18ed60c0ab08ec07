"""The room that a plan needs: as finished nodes weigh, or counted; with features, and with as many as pass through."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import check
from dae_ssl.cluster.finding import OK, UNKNOWN, WRONG
from dae_ssl.compute import disk
from dae_ssl.config import Cell
from dae_ssl.planning import plan, room
from dae_ssl.planning.plan import Plan
from dae_ssl.planning.profile import Profile
from dae_ssl.planning.room import Room
from dae_ssl.store import FEATURES, Store
from dae_ssl.training import networks

GIGABYTE = 10**9
IMAGES = 60_000


def dae(**more: Any) -> Cell:
    return config.cell({"method": {"name": "dae", "embedding": "l2", "alpha": 1}} | more)


def profile(**given: Any) -> Profile:
    return Profile.of("test", {"array_parallelism": 2} | given)


def planned(cells: Iterable[Cell], store: Store, of: Profile) -> Plan:
    return plan.make(cells, store, of, queued={}, array_size=1001)


def finish(store: Store, cell: Cell, stage: str, size: int) -> None:
    node = store.node(stage, config.key(cell, stage))
    node.create()
    node.product(FEATURES).write_bytes(bytes(size))
    node.commit({"settings": config.stage_settings(cell, stage)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in which CIFAR-10 seems to be prepared."""
    made = Store(tmp_path / "store")
    made.data("cifar10").create()
    splits = {"train": {"images": 50_000, "shape": [3, 32, 32]}, "test": {"images": 10_000, "shape": [3, 32, 32]}}
    made.data("cifar10").commit({"splits": splits})
    return made


def weight(store: Store, cell: Cell, stage: str) -> int | None:
    (node,) = (node for node in planned([cell], store, profile()).missing() if node.stage == stage)
    return room.Weights(store).products(node)


def test_features_are_counted_as_the_issue_counts_them(store: Store) -> None:
    assert weight(store, dae(), "features") == IMAGES * (8192 * 2 + 16)
    assert weight(store, dae(features={"dtype": "float32"}), "features") == IMAGES * (8192 * 4 + 16)
    assert weight(store, dae(data={"evaluate_images": 6000}), "features") == 16_000 * (8192 * 2 + 16)
    assert weight(store, config.cell(method="pixels"), "features") == IMAGES * (3072 * 2 + 16)
    assert weight(store, dae(data={"evaluate": "other"}), "features") is None


def test_parameters_are_those_of_the_networks() -> None:
    def count(*modules: Any) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    settings = config.Networks()
    assert count(networks.encoder()) == room.ENCODER
    assert networks.REPRESENTATION_SIZE == room.WIDTH
    assert count(networks.projector(settings), networks.decoder(settings)) == pytest.approx(room.OTHERS, rel=1e-3)


def test_a_finished_node_of_the_same_kind_tells_more_than_counting(store: Store) -> None:
    finish(store, dae(), "pretrain", 7000)
    finish(store, dae(), "features", 5000)
    assert weight(store, dae(seed=3), "features") == 5000
    assert weight(store, dae(seed=3), "pretrain") == 7000
    assert weight(store, dae(seed=3, features={"dtype": "float32"}), "features") == IMAGES * (8192 * 4 + 16)
    assert weight(store, config.cell(method="simclr"), "pretrain") != 7000
    assert weight(store, dae(optimisation={"checkpoints": []}), "pretrain") != 7000


def test_dropped_features_are_known_by_what_they_weighed(store: Store) -> None:
    finish(store, dae(), "features", 5000)
    node = store.node("features", config.key(dae(), "features"))
    record = node.record()
    assert record is not None
    disk.write_json(node.product("record.json"), disk._without(record, FEATURES))
    node.product(FEATURES).unlink()
    assert weight(store, dae(seed=3), "features") == 5000


def test_the_study_needs_300_gb_with_features_and_a_share_without(store: Store) -> None:
    slurm = profile(array_parallelism=8, stages={"pretrain": {"packing": 4, "gpus_per_machine": 4}})
    needed = room.needed(planned([dae(seed=seed) for seed in range(300)], store, slurm), slurm, store)
    kept, dropped = needed[True], needed[False]
    assert kept.end == pytest.approx(300 * GIGABYTE, rel=0.05)
    features = IMAGES * (8192 * 2 + 16)
    assert kept.end - dropped.end == 300 * features
    states = 8 * 4 * room.STATES * room.STATE
    assert kept.peak - kept.end == states
    assert dropped.peak - dropped.end == 2 * 8 * 4 * features + states
    assert kept.unknown == dropped.unknown == 0


@pytest.mark.parametrize("launcher", ["slurm", "local"])
def test_a_few_cells_have_all_their_features_at_the_peak(launcher: str, store: Store) -> None:
    of = profile(launcher=launcher)
    needed = room.needed(planned([dae()], store, of), of, store)
    states = room.STATES * room.STATE
    assert needed[False].peak - needed[False].end == IMAGES * (8192 * 2 + 16) + states
    assert needed[True].peak - needed[True].end == states


def test_what_is_there_needs_nothing_more(store: Store) -> None:
    cell = config.cell(method="pixels")
    before = room.needed(planned([cell], store, profile()), profile(), store)[True].end
    finish(store, cell, "features", 100)
    after = room.needed(planned([cell], store, profile()), profile(), store)[True].end
    assert before - after == IMAGES * (3072 * 2 + 16) + room.RECORD


def test_a_plan_says_what_it_needs_and_what_to_do_where_that_is_too_much(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(there: int, of: Profile) -> list[str]:
        monkeypatch.setattr(disk, "free", lambda _store: there)
        return room.lines(planned([dae(seed=seed) for seed in range(30)], store, of), of, store)

    head, kept, dropped, free = told(100 * GIGABYTE, profile())
    assert head == "estimated disk space:"
    assert kept.startswith("  features are kept (this plan) ")
    assert kept.endswith(" in the end")
    assert dropped.startswith("  features are dropped   ")
    assert free.split() == ["free", "on", "the", "disk", "of", "the", "store", "100", "GB"]
    assert told(10 * GIGABYTE, profile())[-1].endswith(
        ": too little; set keep_features: false in the profile, which makes it enough"
    )
    assert told(GIGABYTE, profile())[-1].endswith(": too little; `dae-ssl clean` lists what can be freed")
    assert "dropped (this plan)" in told(10 * GIGABYTE, profile(keep_features=False))[2]
    assert told(10 * GIGABYTE, profile(keep_features=False))[-1].endswith("10 GB")
    assert "dropped (this plan)" in told(35 * GIGABYTE, profile(launcher="local"))[2], "there is little room"
    assert "kept (this plan)" in told(45 * GIGABYTE, profile(launcher="local"))[1]
    assert room.lines(planned([], store, profile()), profile(), store) == []
    unprepared = [dae(data={"evaluate": "other"})]
    assert (
        "without 3 nodes whose images are not prepared"
        in (room.lines(planned(unprepared, store, profile()), profile(), store)[0])
    )


def test_a_budget_drops_features_here_and_a_profile_has_the_last_word(store: Store) -> None:
    found = planned([dae()], store, profile())
    assert room.keeps(found, profile(), store, budget=5.0), "SLURM keeps them unless it is told otherwise"
    assert not room.keeps(found, profile(launcher="local"), store, budget=5.0)
    assert room.keeps(found, profile(launcher="local", keep_features=True), store, budget=5.0)
    assert not room.keeps(found, profile(keep_features=False), store)


@pytest.mark.parametrize(
    ("there", "end", "verdict"),
    [(100, 10, OK), (45, 10, UNKNOWN), (5, 10, WRONG)],
    ids=["fits", "may not fit", "does not fit"],
)
def test_check_warns_of_a_peak_that_does_not_fit(
    there: int, end: int, verdict: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Room(end * GIGABYTE, 50 * GIGABYTE, 0)
    monkeypatch.setattr(disk, "free", lambda _store: there * GIGABYTE)
    monkeypatch.setattr(room, "needed", lambda *_: {True: asked, False: asked})
    finding = check.roomy(profile(), store, [dae()])
    assert (finding.subject, finding.verdict) == ("disk", verdict)
    assert finding.message.startswith(f"needs 50 GB at the peak and {end} GB in the end; {there} GB are free")
    assert ("set keep_features: false in the profile, or free space" in finding.message) is (verdict != OK)
    assert "keep_features" not in check.roomy(replace(profile(), keep_features=False), store, [dae()]).message
