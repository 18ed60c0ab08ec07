"""The life of a node: computed once, mended where it is damaged or outdated, and never committed half or twice."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import life, stages
from dae_ssl.compute.interrupt import Stopped
from dae_ssl.compute.log import read
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell
from dae_ssl.data import prepared
from dae_ssl.distributed import World
from dae_ssl.files import StoreError, write_json
from dae_ssl.store import FEATURES, LEFT_BEHIND, RECORD, Folder, Store, products_digest

CELL = config.cell(
    method="random",
    data={"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    probe={"epochs": 1, "seeds": [0], "learning_rates": [0.01]},
    kmeans={"clusters": 3, "restarts": 1},
)
STAGES = config.STAGES


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def context(images: Path, tmp_path: Path, told: list[str]) -> Context:
    shutil.copytree(images, tmp_path / "store")
    return Context(Store(tmp_path / "store"), World(0, 1, torch.device("cpu")), tell=told.append)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that come to be computed, in order."""
    names: list[str] = []
    counted = {
        name: lambda *given, name=name, stage=stage: (names.append(name), stage(*given))[1]
        for name, stage in stages.STAGES.items()
    }
    monkeypatch.setattr(stages, "STAGES", counted)
    return names


def node(context: Context, stage: str, cell: Cell = CELL) -> Folder:
    return context.store.node(stage, config.key(cell, stage))


def compute_all(context: Context) -> dict[str, Any]:
    return {stage: life.compute(CELL, stage, context) for stage in STAGES}


def events(folder: Folder) -> list[str]:
    return [entry.event for entry in read(folder.log) if entry.event]


# ---------------------------------------------------------------------------------- once


def test_finished_node_is_returned_and_not_computed_again(context: Context, computed: list[str]) -> None:
    first = compute_all(context)
    assert computed == list(STAGES)
    assert compute_all(context) == first
    assert computed == list(STAGES)
    for stage in STAGES:
        first_event, *_, last_event = events(node(context, stage))
        assert (first_event, last_event) == ("started", "finished")


def test_record_says_what_was_computed_from_what_and_for_how_long(context: Context) -> None:
    records = compute_all(context)
    for stage, record in records.items():
        assert (record["stage"], record["key"]) == (stage, config.key(CELL, stage))
        assert record["settings"] == config.stage_settings(CELL, stage)
        assert 0 < record["seconds"] < record["finished"]
    assert "parent" not in records["pretrain"]
    assert records["features"]["parent"] == products_digest(records["pretrain"])
    assert records["features"]["inputs"] == {"tiny": prepared.digests(context.store, "tiny")}


def test_node_that_another_process_finishes_while_this_one_waits_is_not_computed(
    context: Context, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = life.held

    def held_by_another_first(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(life, "held", held)
        life.compute(CELL, "pretrain", context)
        return held(*given, **named)

    monkeypatch.setattr(life, "held", held_by_another_first)
    assert life.compute(CELL, "pretrain", context) == node(context, "pretrain").record()
    assert computed == ["pretrain"]


# ---------------------------------------------------------------------------------- again


def test_damaged_node_is_said_to_be_and_computed_again_to_the_same_bytes(
    context: Context, told: list[str], computed: list[str]
) -> None:
    before = compute_all(context)["features"]["products"]
    node(context, "features").product(FEATURES).write_bytes(b"cut")
    assert compute_all(context)["features"]["products"] == before
    assert computed == [*STAGES, "features"]
    assert told == [f"{node(context, 'features').path} is damaged (a product is missing or has another size): "
                    "computing it again"]  # fmt: skip


def test_node_made_from_other_products_of_its_parent_is_computed_again_without_what_was_there(
    context: Context, told: list[str], computed: list[str]
) -> None:
    compute_all(context)
    features = node(context, "features")
    write_json(features.product(RECORD), (features.record() or {}) | {"parent": "that of an earlier one"})
    features.product("left over").write_text("")
    life.compute(CELL, "features", context)
    assert computed == [*STAGES, "features"]
    assert told == [f"{features.path} was made from an earlier pretrain of this cell: computing it again"]
    assert not features.product("left over").exists()


def test_node_whose_products_stayed_behind_is_computed_again_once_they_are_to_be_read(
    context: Context, told: list[str], computed: list[str]
) -> None:
    compute_all(context)
    features = node(context, "features")
    record = features.record() or {}
    write_json(features.product(RECORD), record | {"products": {}, LEFT_BEHIND: record["products"]})
    features.product(FEATURES).unlink()
    compute_all(context)
    assert computed == list(STAGES), "what reads the features is done"
    shutil.rmtree(node(context, "kmeans").path)
    compute_all(context)
    assert computed == [*STAGES, "features", "kmeans"]
    assert told == [f"{features.path} lacks a product that is needed now, which was left behind: computing it again"]


def test_node_computed_from_other_images_is_refused_in_one_line(context: Context, computed: list[str]) -> None:
    compute_all(context)
    data = context.store.data("tiny").product(RECORD)
    record = json.loads(data.read_text())
    record["splits"]["test"]["digest"] = "another"
    write_json(data, record)
    with pytest.raises(StoreError, match="computed from other images than those now prepared as 'tiny'") as refused:
        life.compute(CELL, "features", context)
    assert "\n" not in str(refused.value)
    assert computed == list(STAGES)


# ---------------------------------------------------------------------------------- interrupted


def test_stage_that_fails_says_why_in_the_log_commits_nothing_and_is_taken_up_again(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> dict[str, Any]:
        node(context, "pretrain").product("half").write_text("")
        node(context, "pretrain").product(".temporary").write_text("")
        raise ZeroDivisionError("why")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "STAGES", {"pretrain": fail})
        with pytest.raises(ZeroDivisionError):
            life.compute(CELL, "pretrain", context)
    folder = node(context, "pretrain")
    assert folder.record() is None
    assert not folder.lock.exists()
    last = [dict(entry.fields) for entry in read(folder.log) if entry.event == "stopped"]
    assert last == [{"error": "ZeroDivisionError", "reason": "why"}]
    record = life.compute(CELL, "pretrain", context)
    assert not folder.product(".temporary").exists()
    assert events(folder) == ["started", "stopped", "started", "finished"]
    assert record["key"] == folder.key


def test_node_that_another_process_took_over_is_not_committed(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_still(*_given: object) -> dict[str, Any]:
        elsewhere = {"token": "x", "host": "elsewhere", "space": "y", "pid": 1, "started": "1", "since": "now"}
        write_json(node(context, "pretrain").lock, elsewhere)
        return {}

    monkeypatch.setattr(stages, "STAGES", {"pretrain": stand_still})
    with pytest.raises(StoreError, match="taken over"):
        life.compute(CELL, "pretrain", context)
    assert node(context, "pretrain").record() is None
    assert node(context, "pretrain").lock.exists(), "it is the other's"


def test_seconds_are_those_of_every_attempt_and_not_those_between(tmp_path: Path) -> None:
    times = [("started", 100), ("steps", 103), ("started", 200), ("stopped", 210), ("started", 300), ("finished", 301)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"time": time, "event": event}) + "\n" for event, time in times))
    assert life._worked_seconds(log) == 3 + 10 + 1


def test_request_that_comes_too_late_for_the_loop_stops_after_pretraining(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "STAGES", {"pretrain": lambda *_given: os.kill(os.getpid(), signal.SIGTERM) or {}})
    with pytest.raises(Stopped, match="stopped after pretraining"):
        life.pretrain(CELL, context)
    assert node(context, "pretrain").record() is not None


def test_evaluation_leaves_training_alone_and_computes_the_floors_encoder(
    context: Context, computed: list[str]
) -> None:
    life.evaluate(replace(CELL, method=config.method("pixels", {})), context)
    assert computed == ["features", "probe", "kmeans"]
    computed.clear()
    life.evaluate(CELL, context)
    assert computed == ["pretrain", "features", "probe", "kmeans"]
