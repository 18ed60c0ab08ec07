"""`dae-ssl remove` takes a cell with all that is its own, and nothing that another cell needs or a process works on."""

from dataclasses import replace
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.compute.disk import Descriptions
from dae_ssl.files import StoreError, write_bytes
from dae_ssl.lock import held
from dae_ssl.store import CELL, REPORT, Store
from jobs import remove
from tests.commanded import run as command
from tests.compute.test_disk import RANDOM, SECOND, all_done, forged
from tests.jobs.test_clean import everything

FIRST_KEY, SECOND_KEY = config.cell_key(RANDOM), config.cell_key(SECOND)
OTHER = replace(RANDOM, seed=5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two cells that share all but their probes, one that shares nothing, and the page of the first."""
    made = forged(tmp_path / "store", RANDOM, SECOND, OTHER)
    write_bytes(made.cell(FIRST_KEY).product(REPORT), b"page")
    return made


def run(store: Store, *arguments: str) -> int:
    return command("remove", ["--store", str(store.root), *arguments])


def test_nothing_is_changed_before_yes_and_then_a_cell_goes_with_what_is_its_own(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before, probe = everything(store.root), f"probe/{config.key(RANDOM, 'probe')}"
    assert run(store, FIRST_KEY[:6]) == 0
    told = capsys.readouterr().out
    assert everything(store.root) == before
    assert f"cell {FIRST_KEY}: its description and its page, " in told
    assert f"  {probe.replace('/', ' ')}: " in told
    for stage in ("pretrain", "features", "kmeans"):
        assert f"  {stage} {config.key(RANDOM, stage)} is kept: {SECOND_KEY} needs it too\n" in told
    assert "nothing was changed; --yes removes it" in told

    assert run(store, FIRST_KEY, "--yes") == 0
    assert "freed; copies in MLflow are kept" in capsys.readouterr().out
    gone = before.keys() - everything(store.root).keys()
    assert {name for name in gone if not name.startswith((probe, f"cells/{FIRST_KEY}"))} == set()
    assert {probe, f"cells/{FIRST_KEY}"} <= gone
    assert all_done(SECOND, store)
    assert all_done(OTHER, store)


def test_cells_that_share_nodes_with_each_other_only_take_them_along(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(store, FIRST_KEY, SECOND_KEY, FIRST_KEY, "--yes") == 0
    assert "is kept: " not in capsys.readouterr().out
    assert [folder.key for folder in store.cells()] == [config.cell_key(OTHER)]
    assert all(store.keys(stage) == {config.key(OTHER, stage)} for stage in config.STAGES)


@pytest.mark.parametrize("stage", config.STAGES)
def test_a_cell_that_is_computed_is_refused_whole(stage: str, store: Store) -> None:
    before = everything(store.root)
    refused = pytest.raises(StoreError, match=f"{stage} .* is being computed by process .*: stop it first")
    with held(store.node(stage, config.key(OTHER, stage)).lock), refused:
        run(store, config.cell_key(OTHER), FIRST_KEY, "--yes")
    assert everything(store.root) == before


@pytest.mark.parametrize("name", ["", "nobody", "*", "../cells"])
def test_what_names_no_cell_or_several_is_one_line(name: str, store: Store) -> None:
    before = everything(store.root)
    several = r"^\d cells in .* have keys that begin with .*: give more characters"
    with pytest.raises(StoreError, match=rf"^no cell in .* has a key that begins with .*: `dae-ssl status|{several}"):
        run(store, name, "--yes")
    assert everything(store.root) == before


def test_a_description_that_cannot_be_read_is_removed_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = store.cell("odd\n\x1b[2J")
    damaged.create()
    damaged.product(CELL).write_text("{")
    with pytest.raises(StoreError, match=r"the description of cell 'odd\\n\\x1b\[2J' cannot be read"):
        run(store, FIRST_KEY, "--yes")
    assert run(store, "odd", "--yes") == 0
    assert "\x1b" not in capsys.readouterr().out
    assert run(store, FIRST_KEY, "--yes") == 0
    assert not store.cell(FIRST_KEY).path.exists()


def test_removal_that_was_interrupted_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_path: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(remove, "free_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(store, FIRST_KEY, "--yes")
    assert FIRST_KEY in Descriptions(store).cells
    monkeypatch.undo()
    assert run(store, FIRST_KEY, "--yes") == 0
    assert FIRST_KEY not in Descriptions(store).cells


def test_links_are_not_followed(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("kept")
    (store.cell(FIRST_KEY).path / "link").symlink_to(mine)
    probe = store.node("probe", config.key(RANDOM, "probe"))
    probe.path.rename(tmp_path / "elsewhere")
    probe.path.symlink_to(tmp_path / "elsewhere")
    there = everything(tmp_path / "elsewhere")
    assert run(store, FIRST_KEY, "--yes") == 0
    assert "is kept: it is behind a link" in capsys.readouterr().out
    assert (mine / "precious").read_text() == "kept"
    assert everything(tmp_path / "elsewhere") == there
    assert not store.cell(FIRST_KEY).path.exists()


def test_a_node_that_another_cell_comes_to_need_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is described after it was told what goes, and before it goes."""
    third = replace(RANDOM, kmeans=replace(RANDOM.kmeans, seed=9))
    plain = remove._require_free

    def described_meanwhile(*arguments: object) -> None:
        plain(*arguments)  # type: ignore[arg-type]
        cells.describe(third, store)

    monkeypatch.setattr(remove, "_require_free", described_meanwhile)
    assert run(store, FIRST_KEY, "--yes") == 0
    assert store.node("probe", config.key(RANDOM, "probe")).record() is not None
    assert not store.cell(FIRST_KEY).path.exists()
