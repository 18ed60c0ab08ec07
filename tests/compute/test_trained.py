"""The encoder of a cell, however it is named: it is the one that the cell's features were made with."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dae_ssl
from dae_ssl import config
from dae_ssl.compute import cells, life, trained
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell, ConfigError
from dae_ssl.data import sets
from dae_ssl.distributed import World
from dae_ssl.evaluation import features
from dae_ssl.files import StoreError, write_json
from dae_ssl.store import FEATURES, LEFT_BEHIND, RECORD, Store, encoder_name
from dae_ssl.training.frozen import FrozenEncoder

SETTINGS: dict[str, Any] = {
    "method": "dae", "embedding": "l2", "alpha": 1,
    "data": {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    "optimisation": {"epochs": 2, "batch_size": 8, "checkpoints": [1]},
    "features": {"dtype": "float32"},
}  # fmt: skip


@pytest.fixture(scope="module")
def computed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Cell]:
    """A store with the features of one cell, of the same cell after its first epoch, and of its random encoder."""
    store = Store(tmp_path_factory.mktemp("trained") / "store")
    shutil.copytree(images, store.root)
    cell = config.cell(SETTINGS)
    context = Context(store, World(0, 1, torch.device("cpu")), tell=lambda _line: None)
    life.pretrain(cell, context)
    for shown in (cell, early(cell), cells.floors(cell)["random encoder"]):
        for stage in shown.stages()[:2]:
            life.compute(shown, stage, context)
    return store, cell


def early(cell: Cell) -> Cell:
    return replace(cell, features=replace(cell.features, epoch=1))


def same(encoder: FrozenEncoder, cell: Cell, store: Store) -> bool:
    """Tell whether an encoder makes of a cell's test images the representations that are stored for it."""
    test = sets.load(store, cell.data.evaluate, "test", "cpu").images
    stored = features.read(cells.nodes(cell, store)["features"].product(FEATURES), "test")
    return torch.equal(encoder(test), stored.representations)


def test_encoder_gives_the_stored_features_bit_for_bit_however_its_cell_is_named(
    computed: tuple[Store, Cell],
) -> None:
    store, cell = computed
    key = config.cell_key(cell)
    assert same(dae_ssl.load_encoder(store, **SETTINGS), cell, store)
    assert same(dae_ssl.load_encoder(str(store.root), cell), cell, store)
    assert same(dae_ssl.load_encoder(store.root, key[:9]), cell, store)
    assert same(dae_ssl.load_encoder(store, config.key(cell, "pretrain")), cell, store)
    file = store.node("pretrain", config.key(cell, "pretrain")).product(encoder_name(2))
    assert same(dae_ssl.load_encoder(file), cell, store)
    assert same(dae_ssl.load_encoder(str(file)), cell, store)


def test_cell_of_an_earlier_epoch_has_that_encoder_and_a_floor_the_random_one(computed: tuple[Store, Cell]) -> None:
    store, cell = computed
    floor = cells.floors(cell)["random encoder"]
    assert same(dae_ssl.load_encoder(store, early(cell)), early(cell), store)
    assert not same(dae_ssl.load_encoder(store, early(cell)), cell, store)
    assert same(dae_ssl.load_encoder(store, floor), floor, store)
    assert same(dae_ssl.load_encoder(store, config.key(floor, "pretrain")), floor, store)


@pytest.mark.parametrize(
    ("named", "settings", "said"),
    [
        ([], {"method": "dea"}, r"method='dea': did you mean dae\? choose"),
        ([], {"method": "dae", "embeding": "l2"}, r"unknown setting embeding: did you mean embedding\?"),
        ([], {"method": "dae", "optimisaton": {}}, r"unknown setting optimisaton: did you mean optimisation\?"),
        ([], {"method": "simclr", "alpha": 1}, "unknown setting alpha: choose from data, "),
        ([], {"embedding": "l2"}, "unknown setting embedding: "),
        ([], {"method": {"name": "dae", "alpha": 1}, "alpha": 2}, "alpha=2: choose one value: method has alpha=1"),
        ([], {"method": "pixels"}, "method='pixels': choose a method with an encoder"),
        ([], {}, r".* is a folder: of a store name a cell as well, by its key or by settings, as method=\"dae\""),
        (["3f"], {"seed": 1}, "a cell and seed are both given"),
    ],
)  # fmt: skip
def test_cell_that_cannot_be_is_one_line(
    named: list[str], settings: dict[str, Any], said: str, computed: tuple[Store, Cell]
) -> None:
    with pytest.raises(ConfigError, match=f"^{said}") as refused:
        dae_ssl.load_encoder(computed[0], *named, **settings)
    assert "\n" not in str(refused.value)


def test_cell_that_is_not_computed_is_one_line_with_the_command_that_computes_it(
    computed: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = computed
    key = config.cell_key(cell)
    with pytest.raises(StoreError) as refused:
        dae_ssl.load_encoder(store, **SETTINGS | {"seed": 7})
    said = str(refused.value)
    assert said.startswith(f"{store.root} has no encoder of this cell: `dae-ssl run method=dae ")
    assert (
        f" seed=7 --store {store.root}` computes it; the store has 2 of the same method with other settings, such as "
        in said
    )
    assert key in said or config.cell_key(early(cell)) in said
    with pytest.raises(
        StoreError, match=r"has no encoder of this cell: `dae-ssl run method=ae --store \S+` computes it$"
    ):
        dae_ssl.load_encoder(tmp_path / "nothing", method="ae")
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_key_that_is_none_or_several_is_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [cells.describe(config.cell(method="dae", seed=seed), store).key for seed in range(17)]
    several = next(digit for digit in "0123456789abcdef" if sum(key.startswith(digit) for key in keys) > 1)
    for beginning in ("dae", "", several):
        count = sum(key.startswith(beginning) for key in keys) if beginning else 0
        said = f"^{count} cells or pretrainings in {tmp_path} have a key that begins with '{beginning}': name one by"
        with pytest.raises(StoreError, match=said):
            dae_ssl.load_encoder(store, beginning)
    with pytest.raises(StoreError, match=f"^{tmp_path} has no encoder of this cell: `dae-ssl run method=dae"):
        dae_ssl.load_encoder(store, keys[0])


def test_damaged_or_absent_encoder_is_not_loaded(computed: tuple[Store, Cell], tmp_path: Path) -> None:
    shutil.copytree(computed[0].root, tmp_path / "store")
    store, cell = Store(tmp_path / "store"), computed[1]
    node = cells.nodes(cell, store)["pretrain"]
    record, name = node.record(), encoder_name(2)
    assert record is not None
    content = bytearray(node.product(name).read_bytes())
    content[-1] ^= 1
    node.product(name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{name} changed since it was committed"):
        dae_ssl.load_encoder(store, cell)
    with pytest.raises(StoreError, match=f"{name} changed since it was committed"):
        dae_ssl.load_encoder(store, node.key)
    left = {name: record["products"].pop(name)}
    write_json(node.product(RECORD), record | {LEFT_BEHIND: left})
    for named in (cell, node.key):
        with pytest.raises(StoreError, match=f"the encoder of pretraining {node.key} did not come along"):
            dae_ssl.load_encoder(store, named)
    write_json(node.product(RECORD), record)
    with pytest.raises(StoreError, match="is missing, although pretraining is done: delete"):
        trained.encoder_file(cell, store)
