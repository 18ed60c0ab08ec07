"""Several stages and cells in one process: nothing is read or hashed twice, and where the time went is told."""

import collections
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, files, store
from dae_ssl.compute import cells, life, stages
from dae_ssl.compute.log import read
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell
from dae_ssl.data import sets
from dae_ssl.distributed import World
from dae_ssl.evaluation import features
from dae_ssl.store import Store
from dae_ssl.training.weights import load_networks, read_encoder

CPU = World(0, 1, torch.device("cpu"))
CELL = config.cell(
    method={"name": "dae", "embedding": "l2", "alpha": 1},
    data={"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    optimisation={"epochs": 1, "batch_size": 8},
    probe={"epochs": 3, "seeds": [0, 1], "learning_rates": [0.01, 0.001]},
    kmeans={"clusters": 3, "restarts": 2},
)


@pytest.fixture
def context(images: Path, tmp_path: Path) -> Context:
    shutil.copytree(images, tmp_path / "store")
    return Context(Store(tmp_path / "store"), CPU, tell=lambda _line: None)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], "collections.Counter[str]"]:
    """Count how often a function of one path is called with each."""

    def count(module: Any, name: str) -> "collections.Counter[str]":
        calls: collections.Counter[str] = collections.Counter()
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path: (calls.update([str(path)]), plain(path))[1])
        return calls

    return count


def run(cell: Cell, context: Context) -> None:
    life.pretrain(cell, context)
    for shown in (cell, *cells.floors(cell).values()):
        life.evaluate(shown, context)


def test_a_cell_and_its_floors_read_images_once_and_hash_no_file_twice_and_features_never(
    context: Context, counted: Callable[[Any, str], "collections.Counter[str]"]
) -> None:
    hashed, mapped = counted(files, "sha256"), counted(sets, "_mapped")
    run(CELL, context)
    assert len(mapped) == 4
    assert set(mapped.values()) == {1}
    assert set(hashed.values()) == {1}
    assert not [path for path in hashed if path.endswith(store.FEATURES)]
    next_cell = replace(CELL, seed=1)
    life.pretrain(next_cell, context)
    life.evaluate(next_cell, context)
    assert set(mapped.values()) == {1}
    for shown in (CELL, next_cell, *cells.floors(CELL).values()):
        for stage, key in config.keys(shown).items():
            context.store.node(stage, key).verify()  # by another run, which hashes everything


def test_stages_in_one_run_and_in_a_run_each_give_the_same_products(
    context: Context, images: Path, tmp_path: Path
) -> None:
    run(CELL, context)
    shutil.copytree(images, tmp_path / "other")
    for shown in (CELL, *cells.floors(CELL).values()):
        for stage in shown.stages():
            life.compute(shown, stage, Context(Store(tmp_path / "other"), CPU, tell=lambda _line: None))
            node = context.store.node(stage, config.key(shown, stage))
            other = Store(tmp_path / "other").node(stage, config.key(shown, stage))
            assert node.verify()["products"] == other.verify()["products"]


def test_training_leaves_its_networks_and_they_hold_the_encoder_that_was_kept(context: Context) -> None:
    life.pretrain(CELL, context)
    node = context.store.node("pretrain", config.key(CELL, "pretrain"))
    networks = load_networks(node.product(store.NETWORKS), CELL)
    assert sorted(networks) == ["decoder", "encoder", "projector"]
    kept = read_encoder(node.product(store.encoder_name(1))).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in networks["encoder"].state_dict().items())
    header = node.product(store.NETWORKS).read_bytes()[8:200].decode(errors="replace")
    assert '"epoch":"1"' in header


def test_features_left_on_a_device_give_the_results_of_those_on_the_disk(
    context: Context, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(CELL, context)
    monkeypatch.setattr(features.Kept, "fits", lambda _kept, rows: rows.dtype == torch.float16)
    reads: list[str] = []
    plain = features.read
    monkeypatch.setattr(features, "read", lambda path, name, **more: (reads.append(name), plain(path, name, **more))[1])
    shutil.copytree(images, tmp_path / "other")
    other = Context(Store(tmp_path / "other"), CPU, tell=lambda _line: None)
    run(CELL, other)
    assert reads == ["test"] * 3  # by k-means, which may be another process
    for shown in (CELL, *cells.floors(CELL).values()):
        key = config.key(shown, "probe")
        one, two = (run_in.store.node("probe", key).verify()["products"] for run_in in (context, other))
        assert one == two


def test_features_left_on_a_device_are_dropped_once_taken_or_with_the_next_ones(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features.Kept, "fits", lambda *_: True)
    life.pretrain(CELL, context)
    for shown in (CELL, *cells.floors(CELL).values()):
        life.evaluate(replace(shown, probe=config.Probe(epochs=1)), context)
        assert context.memo._left == {}
    for seed in (1, 2):
        life.compute(replace(CELL, method=config.method("random", {}), seed=seed), "pretrain", context)
        life.compute(replace(CELL, method=config.method("random", {}), seed=seed), "features", context)
        assert len(context.memo._left) == 1


def test_features_that_changed_within_a_run_are_noticed_by_the_probe(context: Context) -> None:
    life.pretrain(CELL, context)
    life.compute(CELL, "features", context)
    path = context.store.node("features", config.key(CELL, "features")).product(store.FEATURES)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(files.StoreError, match="changed since it was committed"):
        life.compute(CELL, "probe", context)


def test_records_tell_where_the_seconds_of_a_stage_went(context: Context) -> None:
    run(CELL, context)
    named = {
        stage: record["parts"]
        for stage, record in cells.committed_records(CELL, context.store).items()
        if stage != "pretrain"
    }
    assert {stage: list(parts) for stage, parts in named.items()} == {
        "features": ["load", "encode and write"],
        "probe": ["read", "probe", "logistic", "test"],
        "kmeans": ["read", "kmeans"],
    }
    for stage, record in cells.committed_records(CELL, context.store).items():
        if stage != "pretrain":
            assert 0 < sum(record["parts"].values()) <= record["seconds"] + 0.1


def test_a_probe_that_is_not_captured_says_so_in_the_log(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = stages.train_probe
    monkeypatch.setattr(stages, "train_probe", lambda *x, tell, **more: (tell("no graph: why"), plain(*x, **more))[1])
    told: list[str] = []
    life.pretrain(CELL, context)
    life.evaluate(CELL, replace(context, tell=told.append))
    assert told == ["no graph: why"]
    log = context.store.node("probe", config.key(CELL, "probe")).log
    assert [dict(entry.fields) for entry in read(log) if entry.event == "not_captured"] == [{"text": "no graph: why"}]
    assert json.loads(log.read_text().splitlines()[0])["event"] == "started"
