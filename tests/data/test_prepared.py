"""Records of prepared sets: what is missing or does not fit is told before any work, without PyTorch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import ConfigError
from dae_ssl.data import prepare, prepared, sets
from dae_ssl.data.prepared import DataError
from dae_ssl.store import Store
from tests.data.trees import silent, small_tree

FITS = {
    "method": "dae",
    "data": {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    "optimisation": {"epochs": 1, "batch_size": 8},
}


def cell(**changes: dict[str, Any]) -> config.Cell:
    """Return a cell that the tiny set serves, but for some changes."""
    return config.cell(**{name: FITS.get(name, {}) | changes.get(name, {}) for name in {*FITS, *changes} - {"method"}},
                       method=changes.get("method", FITS["method"]))  # fmt: skip


def test_missing_set_is_refused_naming_the_command_and_the_prepared_sets(tmp_path: Path, store: Store) -> None:
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    commands = {"cifar10": "cifar10 --download", "digits": "digits", "photographs": "photographs"}
    for name, command in [*commands.items(), ("yours", "yours --from FOLDER")]:
        with pytest.raises(DataError) as refused:
            sets.load(store, name, "train", "cpu")
        assert f"run dae-ssl data {command} --store {store.root}" in str(refused.value)
        assert "(prepared: mine)" in str(refused.value)
    with pytest.raises(ConfigError, match="split='val'"):
        sets.load(store, "mine", "val", "cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"evaluate": "nowhere"}}, "data set 'nowhere' is not prepared"),
        ({"data": {"pretrain": "nowhere"}}, "data set 'nowhere' is not prepared"),
        ({"optimisation": {"batch_size": 61}}, "optimisation.batch_size=61: choose at most 60, the images used"),
        ({"data": {"pretrain_images": 61}}, "data.pretrain_images=61: choose null (all) or at most 60"),
        ({"data": {"pretrain_images": 7}}, "optimisation.batch_size=8: choose at most 7, the images used"),
        ({"data": {"evaluate_images": 61}}, "data.evaluate_images=61: choose null (all) or at most 60"),
        ({"data": {"validation_images": 58}}, "data.validation_images=58: choose fewer than the 60"),
        ({"data": {"evaluate_images": 30, "validation_images": 28}}, "choose fewer than the 30 training images"),
        ({"probe": {"labels_per_class": 19}}, "data.validation_images=6: choose fewer"),
        ({"kmeans": {"clusters": 1000}}, "kmeans.clusters=1000: choose at most "),
        ({"views": {"crop": 33}}, "views.crop=33: choose at most the images' side, 32"),
    ],
)
def test_cell_that_its_images_cannot_serve_is_refused_in_one_line(
    images: Path, changes: dict[str, dict[str, Any]], said: str
) -> None:
    prepared.require_fits(Store(images), cell())
    with pytest.raises((ConfigError, DataError)) as refused:
        prepared.require_fits(Store(images), cell(**changes))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_last_setting_that_fits_is_not_refused(images: Path) -> None:
    few_labels = {"probe": {"labels_per_class": 18}}
    few_left, whole_batch = {"data": {"validation_images": 57}}, {"optimisation": {"batch_size": 60}}
    for changes in (few_labels, few_left, whole_batch, {"data": {"evaluate_images": 60, "pretrain_images": 8}}):
        prepared.require_fits(Store(images), cell(**changes))


def test_floor_without_training_needs_no_pretraining_set(images: Path) -> None:
    prepared.require_fits(Store(images), cell(method="random", data={"pretrain": "nowhere"}))


def test_encoder_refuses_images_of_another_side_and_pixels_do_not(tmp_path: Path, store: Store) -> None:
    prepare.prepare(store, "tiny", small_tree(tmp_path / "tree", side=28), tell=silent)
    with pytest.raises(DataError, match=r"images of 28x28 pixels: the encoder takes 32x32; .* --size 32"):
        prepared.require_fits(store, cell())
    prepared.require_fits(store, cell(method="pixels"))


def test_digests_are_those_of_the_record_and_of_a_missing_set_none(tmp_path: Path, store: Store) -> None:
    record = prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    assert prepared.digests(store, "mine") == {split: record["splits"][split]["digest"] for split in ("train", "test")}
    assert prepared.digests(store, "yours") is None


def test_asking_needs_no_pytorch_and_no_numpy(images: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
from pathlib import Path
from dae_ssl.data import prepared
from dae_ssl.store import Store
prepared.require_prepared(Store(Path({str(images)!r})), "tiny")
print(prepared.facts(Store(Path({str(images)!r})), "tiny")["images"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("60\n", "")
