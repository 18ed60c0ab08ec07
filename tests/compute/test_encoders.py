"""Encoders beside a file of results: they travel byte for byte, are what the records name, and spare a training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, files
from dae_ssl.compute import cells, encoders, nodes
from dae_ssl.compute.archive import Archive, ArchiveError
from dae_ssl.compute.life import compute
from dae_ssl.compute.nodes import needed
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell, ConfigError
from dae_ssl.distributed import World
from dae_ssl.files import StoreError, sha256
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import (
    FEATURES,
    LEFT_BEHIND,
    RECORD,
    Folder,
    Store,
    encoder_name,
    encoder_names,
    products_digest,
)
from dae_ssl.training import networks
from dae_ssl.training.checkpoint import serialise
from dae_ssl.training.weights import packed, read_encoder
from tests.commanded import ask, run
from tests.forged import a_cell, commit, forge

TODAY, FORMER = encoder_names(4)


def node(store: Store, cell: Cell, stage: str = "pretrain") -> Folder:
    return store.node(stage, config.key(cell, stage))


def record(store: Store, cell: Cell, stage: str = "pretrain") -> dict[str, Any]:
    found = node(store, cell, stage).record()
    assert found is not None
    return found


def measure(store: Store, cell: Cell, *, form: int = 0, seed: int = 0) -> None:
    """Forge a cell that is done, with an encoder of every kept epoch, each record naming what it was made from."""
    forge(store, cell, right=0.8, seed=seed)
    for epoch in cell.optimisation.kept_epochs() if cell.method.trains else ():
        encoder = networks.encoder()
        networks.initialise(encoder, torch.Generator().manual_seed(100 * seed + epoch))
        content = serialise(encoder.state_dict()) if form else packed(encoder.state_dict())
        node(store, cell).product(encoder_names(epoch)[form]).write_bytes(content)
    node(store, cell, "features").product(FEATURES).write_bytes(bytes(1000))
    for stage in cell.stages():
        parent = cell.parent(stage)
        made_from = {} if parent is None else {"parent": products_digest(record(store, cell, parent))}
        commit(store, cell, stage, figures=record(store, cell, stage)["figures"], **made_from)


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Store, Cell]:
    store, cell = Store(tmp_path / "measured"), a_cell()
    measure(store, cell)
    return store, cell


def saved(store: Store, *wanted: Cell, to: Path) -> Archive:
    """Save cells into a file, and their encoders into the folder `weights` beside it."""
    archive = Archive.read(to)
    archive.add(wanted, store)
    archive.write(to)
    encoders.save(archive, to.parent / "weights", wanted, store)
    return Archive.read(to)


def loaded(archive: Archive, folder: Path, store: Store) -> tuple[int, int]:
    files = encoders.present(archive, folder)
    return archive.load(store), encoders.load(files, store)


def missing(store: Store, *wanted: Cell) -> dict[str, str]:
    """Return the stages that would be computed, and of what cell each node is told."""
    made = plan.make(wanted, store, Profile.of("test", {"launcher": "local"}), queued={}, array_size=100)
    return {node.stage: config.cell_key(node.cell) for node in made.missing()}


# ---------------------------------------------------------------------------------- saved


@pytest.mark.parametrize(("form", "suffix"), [(0, "safetensors"), (1, "pt")])
def test_last_encoder_and_the_measured_one_are_saved_as_they_are(form: int, suffix: str, tmp_path: Path) -> None:
    store, cell = Store(tmp_path / "measured"), a_cell()
    earlier = replace(cell, features=replace(cell.features, epoch=2))
    measure(store, cell, form=form)
    key = config.key(cell, "pretrain")
    saved(store, cell, to=tmp_path / "r.jsonl")
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {"README.md", f"{key}.{suffix}"}
    saved(store, earlier, to=tmp_path / "r.jsonl")
    names = {f"{key}.{suffix}": 4, f"{key}-epoch0002.{suffix}": 2}
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {"README.md", *names}
    for name, epoch in names.items():
        product = node(store, cell).product(encoder_names(epoch)[form])
        assert (tmp_path / "weights" / name).read_bytes() == product.read_bytes()


def test_index_tells_of_every_encoder_what_it_is_and_what_it_scored(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    again, floor = replace(cell, kmeans=replace(cell.kmeans, restarts=3)), next(iter(cells.floors(cell).values()))
    trained = a_cell(precision="bf16", seed=1)
    measure(store, floor, seed=7)
    measure(store, trained, seed=1)
    for stage in ("features", "probe", "kmeans"):
        shutil.rmtree(node(store, trained, stage).path)
    to = tmp_path / "r.jsonl"
    saved(store, cell, again, floor, trained, to=to)
    before = (tmp_path / "weights" / "README.md").read_text()
    rows = [[part.strip() for part in line.strip("| ").split("|")] for line in before.splitlines() if "`" in line]
    rows = [row for row in rows if row[0].startswith("`")]
    assert len(rows) == 3, "two cells that read one encoder, one without scores, and no file for what is not trained"
    by_title = {row[1]: row for row in rows}
    figures, file = cells.scores(cell, store), tmp_path / "weights" / f"{config.key(cell, 'pretrain')}.safetensors"
    assert by_title[config.title(cell)] == [
        f"`{file.name}`", config.title(cell), "4", "digits", f"{100 * figures['test_accuracy']:.2f}",
        f"{100 * figures['logistic_test_accuracy']:.2f}", f"{100 * figures['kmeans_matched_accuracy']:.2f}",
        "fp32", "a <fast> one", "0123abc-modified", str(file.stat().st_size), f"`{sha256(file)}`",
    ]  # fmt: skip
    assert by_title[config.title(again)][6] == "", "its k-means was not measured"
    assert by_title[config.title(trained)][3:8] == ["", "", "", "", "bf16"]
    saved(store, cell, to=to)
    assert (tmp_path / "weights" / "README.md").read_text() == before
    (tmp_path / "weights" / "of another.safetensors").write_bytes(b"")
    file.unlink()
    stale = tmp_path / "weights" / f"{config.key(trained, 'pretrain')}.safetensors"
    encoders.save(Archive.read(to), tmp_path / "weights", [], store)
    assert (tmp_path / "weights" / "README.md").read_text().count("\n| `") == 1, "what is there"
    stale.write_bytes(b"of another training")
    encoders.save(Archive.read(to), tmp_path / "weights", [], store)
    assert (tmp_path / "weights" / "README.md").read_text().count("\n| `") == 0, "and is what it is said to be"


def test_encoder_that_took_the_place_of_another_is_saved_in_its_place(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    to = tmp_path / "r.jsonl"
    saved(store, cell, to=to)
    measure(store, cell, seed=5)
    archive = saved(store, cell, to=to)
    assert loaded(archive, tmp_path / "weights", Store(tmp_path / "other")) == (4, 1)
    assert record(Store(tmp_path / "other"), cell)["products"][TODAY] == record(store, cell)["products"][TODAY]


@pytest.mark.parametrize("content", ["# My project\n", "", "# Encoders of mine\n"])
def test_page_of_a_folder_that_is_no_index_is_not_overwritten(
    content: str, measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    page = tmp_path / "weights" / "README.md"
    page.parent.mkdir()
    page.write_text(content)
    with pytest.raises(StoreError, match=r"README\.md is not an index of encoders, and would be overwritten"):
        saved(store, cell, to=tmp_path / "r.jsonl")
    assert [path.name for path in page.parent.iterdir()] == ["README.md"]
    assert page.read_text() == content


def test_encoder_that_changed_since_it_was_committed_is_not_saved(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    product = node(store, cell).product(TODAY)
    product.write_bytes(bytes(product.stat().st_size))
    with pytest.raises(files.StoreError, match="changed since it was committed"):
        saved(store, cell, to=tmp_path / "r.jsonl")
    assert not list((tmp_path / "weights").glob("*.safetensors"))


# ---------------------------------------------------------------------------------- loaded


@pytest.mark.parametrize("form", [0, 1])
def test_loaded_encoder_is_a_product_and_no_more_left_behind(form: int, tmp_path: Path) -> None:
    store, other, cell = Store(tmp_path / "measured"), Store(tmp_path / "other"), a_cell()
    measure(store, cell, form=form)
    archive = saved(store, cell, to=tmp_path / "r.jsonl")
    name = encoder_names(4)[form]
    assert loaded(archive, tmp_path / "weights", other) == (4, 1)
    found, was = record(other, cell), record(store, cell)
    assert set(found["products"]) == {name}
    assert set(found[LEFT_BEHIND]) == set(was["products"]) - {name}
    assert node(other, cell).verify()["settings"] == was["settings"]
    assert products_digest(found) == products_digest(was), "so no child was made from something else"
    assert set(cells.current_records(cell, other)) == set(cell.stages())
    assert missing(other, cell) == {}
    encoder = read_encoder(node(other, cell).product(name))
    assert torch.equal(encoder[0].weight, read_encoder(node(store, cell).product(name))[0].weight)


def test_weights_are_added_to_numbers_that_were_loaded_before(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    other, archive = Store(tmp_path / "other"), saved(store, cell, to=tmp_path / "r.jsonl")
    assert archive.load(other) == 4
    assert loaded(archive, tmp_path / "weights", other) == (0, 1)
    assert TODAY in record(other, cell)["products"]
    before = node(other, cell).product(RECORD).read_bytes()
    assert loaded(archive, tmp_path / "weights", other) == (0, 0)
    assert node(other, cell).product(RECORD).read_bytes() == before


def test_saving_what_was_loaded_gives_the_same_files(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    other, archive = Store(tmp_path / "other"), saved(store, cell, to=tmp_path / "r.jsonl")
    loaded(archive, tmp_path / "weights", other)
    (tmp_path / "again").mkdir()
    saved(other, cell, to=tmp_path / "again" / "r.jsonl")
    for name in ("r.jsonl", "weights/README.md", f"weights/{config.key(cell, 'pretrain')}.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_file_that_is_not_what_its_record_names_is_refused_in_one_line(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    saved(store, cell, to=tmp_path / "r.jsonl")
    file = tmp_path / "weights" / f"{config.key(cell, 'pretrain')}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveError, match="is not the encoder that was measured") as refused:
        run("results", ["load", str(tmp_path / "r.jsonl"), f"--store={tmp_path / 'other'}"])
    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)
    assert not (tmp_path / "other").exists()


def test_node_that_has_or_names_another_encoder_stays_as_it_is(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    archive = saved(store, cell, to=tmp_path / "r.jsonl")
    trained_here, numbers_of_another = Store(tmp_path / "here"), Store(tmp_path / "another")
    measure(trained_here, cell, seed=3)
    saved(trained_here, cell, to=tmp_path / "b" / "r.jsonl").load(numbers_of_another)
    for other in (trained_here, numbers_of_another):
        before = record(other, cell)
        assert loaded(archive, tmp_path / "weights", other) == (0, 0)
        assert record(other, cell) == before


def test_node_that_is_being_computed_is_left_alone(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    other, archive = Store(tmp_path / "other"), saved(store, cell, to=tmp_path / "r.jsonl")
    node(other, cell).states.mkdir(parents=True)
    assert loaded(archive, tmp_path / "weights", other) == (3, 0)
    assert node(other, cell).record() is None


# ---------------------------------------------------------------------------------- what is computed again


def test_pretraining_counts_as_done_for_who_reads_what_came_along(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    other, archive = Store(tmp_path / "other"), saved(store, cell, to=tmp_path / "r.jsonl")
    further = replace(cell, kmeans=replace(cell.kmeans, restarts=3))
    archive.load(other)
    assert set(missing(other, further)) == {"pretrain", "features", "kmeans"}
    loaded(archive, tmp_path / "weights", other)
    assert set(missing(other, further)) == {"features", "kmeans"}
    assert set(cells.current_records(further, other)) == {"pretrain", "probe"}


def test_pretraining_is_done_again_for_who_reads_an_encoder_that_stayed_behind(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    other, archive = Store(tmp_path / "other"), saved(store, cell, to=tmp_path / "r.jsonl")
    loaded(archive, tmp_path / "weights", other)
    shutil.rmtree(node(other, cell, "features").path)
    earlier = replace(cell, features=replace(cell.features, epoch=2))
    assert set(missing(other, cell)) == {"features", "probe", "kmeans"}
    for wanted in ((earlier,), (cell, earlier), (earlier, cell)):
        told = missing(other, *wanted)
        assert set(told) == set(config.STAGES)
        assert told["pretrain"] == config.cell_key(earlier), "whose record alone tells that it has to be computed"
    assert set(cells.current_records(earlier, other)) == set()
    assert set(cells.current_records(cell, other)) == {"pretrain"}


def test_features_are_the_same_from_either_form_of_an_encoder(images: Path, tmp_path: Path) -> None:
    cell = a_cell(data={"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6})
    made = []
    for form in (0, 1):
        shutil.copytree(images, tmp_path / str(form))
        store = Store(tmp_path / str(form))
        measure(store, cell, form=form)
        shutil.rmtree(node(store, cell, "features").path)
        here = Context(store, World(0, 1, torch.device("cpu")), print)
        made.append(compute(cell, "features", here)["products"])
    assert made[0] == made[1]
    shutil.rmtree(node(store, cell, "features").path)
    node(store, cell).product(FORMER).unlink()
    commit(store, cell, "pretrain")
    with pytest.raises(files.StoreError, match="is missing, although pretraining is done"):
        compute(cell, "features", here)


@pytest.mark.slow
def test_missing_probe_of_loaded_cells_is_computed_without_training_them_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    tiny = ["tour", "data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "probe.epochs=3",
            "optimisation.batch_size=8", "optimisation.epochs=2", "optimisation.checkpoints=[1]", "kmeans.clusters=3",
            "kmeans.restarts=2", "--no-floors"]  # fmt: skip
    first, second, to = tmp_path / "first", tmp_path / "second", tmp_path / "r.jsonl"
    for place in (first, second):
        shutil.copytree(images, place)
    assert run("submit", [*tiny, f"--store={first}"]) == 0
    run("results", ["save", *tiny, f"--store={first}", str(to), "--weights"])
    assert "3 encoders, 3 of them new" in capsys.readouterr().out
    to.write_text("".join(line for line in to.read_text().splitlines(True) if json.loads(line).get("stage") != "probe"))
    run("results", ["load", str(to), f"--store={second}"])
    assert "3 of 3 encoders" in capsys.readouterr().out
    wanted = ask([*tiny, f"--store={second}"]).cells
    there = nodes.finished(needed(wanted), Store(second))
    assert {stage for stage, _ in there} == {"pretrain", "kmeans"}
    assert run("submit", [*tiny, f"--store={second}"]) == 0
    printed = capsys.readouterr().out
    computed = [line.split()[1] for line in printed.splitlines() if line.startswith("[")]
    assert computed == ["features", "probe"] * 3
    assert len(nodes.finished(needed(wanted), Store(second))) == 12, "k-means of the same features stays valid"
    for cell in wanted:
        assert cells.scores(cell, Store(second)) == cells.scores(cell, Store(first))
        assert set(record(Store(second), cell)["products"]) == {encoder_name(2)}
        content = node(Store(second), cell).product(encoder_name(2)).read_bytes()
        said = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        assert config.key_of(json.loads(said["settings"])) == config.key(cell, "pretrain"), "it tells what it is"
        assert said["epoch"] == "2"


# ---------------------------------------------------------------------------------- the command


def test_command_saves_encoders_where_it_is_told_and_loads_them_from_there(tmp_path: Path, capsys: Any) -> None:
    settings = ["tour", "optimisation.epochs=4", "optimisation.checkpoints=[1,2]", "--no-floors"]
    (first, *_) = ask([*settings, "--store=x"]).cells
    measure(Store(tmp_path / "s"), first)
    to, other = tmp_path / "in" / "r.jsonl", tmp_path / "other"
    save, load = ["save", *settings, f"--store={tmp_path / 's'}", str(to)], ["load", str(to), f"--store={other}"]
    run("results", save)
    assert not (to.parent / "weights").exists()
    run("results", load)
    assert "encoders of" not in capsys.readouterr().out
    run("results", [*save, f"--weights={tmp_path / 'elsewhere'}"])
    assert "elsewhere: 1 encoders, 1 of them new" in capsys.readouterr().out
    for folder in (tmp_path / "s", "true"):
        with pytest.raises(ConfigError, match="choose a folder that holds encoders of these results"):
            run("results", [*load, f"--weights={folder}"])
    run("results", [*load, f"--weights={tmp_path / 'elsewhere'}"])
    assert "1 of 1 encoders" in capsys.readouterr().out
    run("results", [*save, "--weights"])
    run("results", ["load", str(to), "--no-weights", f"--store={tmp_path / 'numbers'}"])
    assert "encoders of" not in capsys.readouterr().out
    run("results", ["load", str(to), f"--store={tmp_path / 'both'}"])
    assert "1 of 1 encoders" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--weights='': choose a folder, or write --weights without a value"):
        run("results", [*save, "--weights="])
    with pytest.raises(ConfigError, match="choose a folder"):
        run("results", [*save, f"--weights={to}"])
