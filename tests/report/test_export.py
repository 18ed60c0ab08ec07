"""An exported encoder stands by itself: what its card says loads it, and its scores are those that were measured."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import dae_ssl
from dae_ssl import config, files
from dae_ssl.compute import cells, life
from dae_ssl.compute.stages import Context
from dae_ssl.config import ConfigError
from dae_ssl.distributed import World
from dae_ssl.files import StoreError
from dae_ssl.report import export
from dae_ssl.store import Store, encoder_names
from dae_ssl.training import networks
from dae_ssl.training.checkpoint import serialise
from tests.commanded import run
from tests.forged import a_cell, forge

CELL = config.cell(
    method="dae", embedding="l2", alpha=1, seed=3,
    data={"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    optimisation={"epochs": 1, "batch_size": 8}, probe={"epochs": 3}, kmeans={"clusters": 3, "restarts": 1},
)  # fmt: skip
WORDS = ["method=dae", "method.embedding=l2", "method.alpha=1", "seed=3", "data.pretrain=tiny", "data.evaluate=tiny",
         "data.validation_images=6", "optimisation.epochs=1", "optimisation.batch_size=8", "probe.epochs=3",
         "kmeans.clusters=3", "kmeans.restarts=1"]  # fmt: skip


@pytest.fixture(scope="module")
def store(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one cell that is computed, and one of its floors."""
    store = Store(tmp_path_factory.mktemp("export") / "store")
    shutil.copytree(images, store.root)
    context = Context(store, World(0, 1, torch.device("cpu")), tell=lambda _line: None)
    life.pretrain(CELL, context)
    for cell in (CELL, cells.floors(CELL)["raw pixels"]):
        life.evaluate(cell, context)
    return store


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    export.write(CELL, store, tmp_path / "encoder")
    return tmp_path / "encoder"


ALONE = """
import sys
sys.modules["dae_ssl"] = None  # importing it fails from here on
import numpy, torch
images = torch.from_numpy(numpy.load("../images.npy"))
{lines}
numpy.save("../h.npy", h.detach().numpy())
print(*sorted(name for name, module in sys.modules.items() if name.startswith("dae_ssl") and module), end="")
"""


def test_lines_of_the_card_load_it_where_this_package_is_not_installed(exported: Path, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    np.save(tmp_path / "images.npy", images.numpy())
    (lines,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert lines.count("\n") <= 11
    command = [sys.executable, "-W", "error", "-c", ALONE.format(lines=lines)]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    h = torch.from_numpy(np.load(tmp_path / "h.npy"))
    # Float32, laid out in memory in another way, so that products are summed in another order.
    torch.testing.assert_close(h, dae_ssl.load_encoder(exported / "encoder.safetensors")(images), rtol=1e-5, atol=1e-5)


def test_weights_are_the_product_byte_for_byte_and_the_settings_give_the_cell(exported: Path, store: Store) -> None:
    facts = json.loads((exported / "settings.json").read_text())
    product = store.node("pretrain", config.key(CELL, "pretrain")).product(encoder_names(1)[0])
    assert (exported / "encoder.safetensors").read_bytes() == product.read_bytes()
    assert facts["encoder"]["sha256"] == files.sha256(product)
    assert facts["origin"]["pretrain"]["products"][product.name]["sha256"] == files.sha256(product)
    assert config.cell(facts["settings"]) == CELL
    assert facts["cell"] == config.cell_key(CELL)
    assert facts["scores"] == dae_ssl.scores(CELL, store)
    assert facts["floors"] == {"raw pixels": dae_ssl.scores(cells.floors(CELL)["raw pixels"], store)}
    said = {name for record in facts["origin"].values() for name in record}
    assert {"commit", "versions", "device"} <= said
    assert not {"host", "slurm"} & said, "nobody else's business"


def test_card_has_front_matter_that_hubs_read_and_the_measured_table(exported: Path, store: Store) -> None:
    _, front, body = (exported / "README.md").read_text().split("---\n", 2)
    accuracy = dae_ssl.scores(CELL, store)["test_accuracy"]
    facts = yaml.safe_load(front)
    assert facts["metrics"] == ["accuracy"]
    assert facts["model-index"][0]["results"][0]["metrics"][0]["value"] == round(100 * accuracy, 2)
    assert "datasets" not in facts, "nobody else has these images"
    assert body.startswith("\n# Encoder: dae, embedding = l2, alpha = 1.0, seed = 3\n")
    (line,) = re.findall(r"^\| Test, the study's probe \| (.*) \|$", body, re.MULTILINE)
    cell, floor, difference = line.split(" | ")
    assert re.fullmatch(rf"{100 * accuracy:.2f} \[[\d.]+, [\d.]+\]", cell)
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", floor)
    assert re.fullmatch(r"[+−][\d.]+ p [<=] [\d.]+", difference)
    assert "random encoder" not in body, "a floor that was not measured is left out"
    assert "| `optimisation.batch_size` | 8 |" in body


def test_what_is_not_measured_is_named_as_missing(store: Store, tmp_path: Path) -> None:
    export.write(replace(CELL, probe=config.Probe(epochs=7)), store, tmp_path / "e")
    body = (tmp_path / "e" / "README.md").read_text()
    assert "Nothing was measured yet: `dae-ssl run method=dae " in body
    assert "model-index" not in body


def test_encoder_from_when_weights_were_pytorch_files_is_brought_into_todays_form(tmp_path: Path) -> None:
    cell, store = a_cell(), Store(tmp_path / "store")
    encoder = networks.encoder()
    node = store.node("pretrain", config.key(cell, "pretrain"))
    node.create()
    node.product(encoder_names(4)[1]).write_bytes(serialise(encoder.state_dict()))
    forge(store, cell, right=0.9, seed=0)
    export.write(cell, store, tmp_path / "e")
    loaded = dae_ssl.load_encoder(tmp_path / "e" / "encoder.safetensors").network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in encoder.state_dict().items())


# ---------------------------------------------------------------------------------- the folder


def test_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(store: Store, tmp_path: Path) -> None:
    export.write(CELL, store, tmp_path / "new" / "e")
    (tmp_path / "new" / "e" / "README.md").write_text("older")
    export.write(CELL, store, tmp_path / "new" / "e")
    assert (tmp_path / "new" / "e" / "README.md").read_text().startswith("---\n")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["e"], "nothing is left beside it"
    (tmp_path / "new" / "e" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("new/e", "file", "empty"):
        with pytest.raises(StoreError, match=f"^{tmp_path / name} is there and is no export of an encoder"):
            export.write(CELL, store, tmp_path / name)
    assert (tmp_path / "new" / "e" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_folder_appears_whole_or_not_at_all(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = files.write_bytes

    def full(path: Path, content: bytes) -> None:
        assert path.parent.name.startswith(".e."), "written under another name"
        if path.name == "README.md":
            raise StoreError("the disk is full")
        plain(path, content)

    monkeypatch.setattr(export, "write_bytes", full)
    with pytest.raises(StoreError, match="the disk is full"):
        export.write(CELL, store, tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------- the command


def test_export_that_cannot_be_replaced_stays(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "e"
    export.write(CELL, store, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        if target == folder and path.name != former[0]:
            raise KeyboardInterrupt
        if path == folder:
            former[0] = Path(target).name
        return rename(path, target)

    former = [""]
    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(KeyboardInterrupt):
        export.write(CELL, store, folder)
    assert former[0], "the earlier export was never moved aside"
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_folder_is_named_as_a_person_names_it(store: Store, tmp_path: Path) -> None:
    export.write(CELL, store, tmp_path / "none" / ".." / "e")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    images = np.zeros((2, 3, 32, 32), np.uint8)
    assert torch.equal(
        *(dae_ssl.load_encoder(path)(images) for path in (tmp_path / "e", tmp_path / "e" / export.WEIGHTS))
    )


def test_command_takes_a_key_or_settings_and_prints_what_loads_it(store: Store, tmp_path: Path, capsys: Any) -> None:
    for number, words in enumerate(([config.cell_key(CELL)[:8]], WORDS)):
        folder = tmp_path / f"e{number}"
        assert run("export", [*words, str(folder), f"--store={store.root}"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{folder}: encoder.safetensors, settings.json, README.md; ")
        assert 'load_file("encoder.safetensors")' in said
        assert files.sha256(folder / "settings.json") == files.sha256(tmp_path / "e0" / "settings.json")


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["method=dae"], ConfigError, "a cell and a folder are needed: write dae-ssl export CELL FOLDER"),
        (["3f0c"], ConfigError, "a cell and a folder are needed"),
        (["ffff", "e"], StoreError, "no cell in .* has a key that begins with 'ffff'"),
        (["method=pixels", "e"], ConfigError, "method='pixels': choose a method with an encoder"),
        (["method=ae", "seed=5", "e"], StoreError, r".* has no encoder of this cell: `dae-ssl run method=ae seed=5 "),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_writes_nothing(
    words: list[str], error: type[Exception], said: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"^{said}") as refused:
        run("export", [*words, f"--store={store.root}"])
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
