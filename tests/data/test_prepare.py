"""Preparing: whatever a set is made from it holds the same bytes, and nothing half done is taken for a set."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dae_ssl.data import prepare, sets
from dae_ssl.data.prepared import SPLITS, DataError
from dae_ssl.data.sources import OFFICIAL, Content
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from tests.data.trees import NAMES, by_pixels, digests, pixels, silent, small_tree, snapshot, write_official, write_tree

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
with_real_images = pytest.mark.skipif(
    not (REAL / "unpack.py").exists(), reason="no real CIFAR images in ../shared/data"
)


def test_archive_extracted_folder_and_image_tree_of_the_same_pixels_are_the_same_set(tmp_path, monkeypatch):
    content = write_official(tmp_path / "official", monkeypatch)
    sources = [
        tmp_path / "official",
        tmp_path / "official" / "cifar-10-batches-py",
        tmp_path / "official" / "cifar-10-python.tar.gz",
        write_tree(tmp_path / "tree", content),
        write_tree(tmp_path / "parent" / "cifar10", content).parent,
    ]
    seen = [
        digests(prepare.prepare(Store(tmp_path / str(i)), "cifar10", s, tell=silent)) for i, s in enumerate(sources)
    ]
    assert seen == seen[:1] * len(sources)
    files = [snapshot(tmp_path / str(i) / "data" / "cifar10") for i in range(len(sources))]
    for name in ("train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy"):
        assert len({own[name] for own in files}) == 1


def test_prepared_images_keep_their_pixels_and_class_names(tmp_path, store, monkeypatch):
    content = write_official(tmp_path / "official", monkeypatch)
    prepare.prepare(store, "cifar10", tmp_path / "official", tell=silent)
    for split, (images, names) in content.items():
        loaded = sets.load(store, "cifar10", split, "cpu")
        assert loaded.classes == tuple(sorted(NAMES))
        assert (loaded.images.dtype, loaded.labels.dtype, loaded.ids.dtype) == (torch.uint8, torch.int64, torch.int64)
        assert by_pixels(loaded) == {image.tobytes(): name for image, name in zip(images, names, strict=True)}
        hashes = [hashlib.sha256(image.numpy()).digest() for image in loaded.images]
        order = list(zip(loaded.labels.tolist(), hashes, strict=True))
        assert order == sorted(order)


@pytest.mark.parametrize("what", ["shape", "pixel", "label", "class name"])
def test_digest_changes_with_every_part_of_the_content(what):
    images, labels, classes = pixels(4), np.array([0, 0, 1, 1]), ["a", "b"]
    before = prepare.digest(images, labels, classes)
    assert before == prepare.digest(images.copy(), labels.astype(np.int32), tuple(classes))
    if what == "shape":
        images = images.reshape(4, 3, 64, 16)
    elif what == "pixel":
        images[2, 1, 5, 7] ^= 1
    elif what == "label":
        labels = np.array([0, 1, 1, 1])
    else:
        classes = ["a", "c"]
    assert prepare.digest(images, labels, classes) != before


def test_record_is_plain_json_with_digests_and_counts(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    record = json.loads(store.data("mine").product("record.json").read_text())
    assert record["splits"]["train"]["images"] == 40
    assert record["splits"]["test"]["shape"] == [3, 32, 32]
    assert sorted(record["products"]) == ["test-images.npy", "test-labels.npy", "train-images.npy", "train-labels.npy"]
    for split in SPLITS:
        loaded = sets.load(store, "mine", split, "cpu")
        own = prepare.digest(loaded.images.numpy(), loaded.labels.numpy(), loaded.classes)
        assert record["splits"][split]["digest"] == own


# ---------------------------------------------------------------------------------- names keep their content


def test_same_content_again_changes_nothing_and_says_so(tmp_path, store):
    tree = small_tree(tmp_path / "tree")
    said = []
    first = prepare.prepare(store, "mine", tree, tell=silent)
    before = {path: path.stat().st_mtime_ns for path in store.data("mine").path.iterdir()}
    assert prepare.prepare(store, "mine", tree.rename(tmp_path / "moved"), tell=said.append) == first
    assert {path: path.stat().st_mtime_ns for path in store.data("mine").path.iterdir()} == before
    assert any("already prepared" in line for line in said)


def test_different_content_under_a_prepared_name_is_refused_and_the_set_kept(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "one"), tell=silent)
    before = snapshot(store.root)
    with pytest.raises(DataError, match=r"holds other images.*use another name"):
        prepare.prepare(store, "mine", small_tree(tmp_path / "other", seed=7), tell=silent)
    assert snapshot(store.root) == before


@pytest.mark.parametrize("saves", [0, 1, 3])
def test_interrupted_preparing_leaves_nothing_that_can_be_loaded_and_can_be_repeated(
    tmp_path, store, monkeypatch, saves
):
    tree, save, count = small_tree(tmp_path / "tree"), np.save, iter(range(10))

    def interrupted(file, array, **options):
        if next(count) == saves:
            file.write(b"half")
            raise KeyboardInterrupt
        save(file, array, **options)

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(store, "mine", tree, tell=silent)
    monkeypatch.setattr(np, "save", save)
    assert store.data_names() == []
    assert len(list(store.data("mine").path.iterdir())) == saves  # whole files only, no temporary one, no lock
    with pytest.raises(DataError, match="not prepared"):
        sets.load(store, "mine", "train", "cpu")
    prepare.prepare(store, "mine", tree, tell=silent)
    assert len(sets.load(store, "mine", "train", "cpu")) == 40


def test_changed_file_is_refused_on_loading_and_mended_by_preparing_again(tmp_path, store):
    tree = small_tree(tmp_path / "tree")
    record = prepare.prepare(store, "mine", tree, tell=silent)
    path = store.data("mine").product("train-images.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"train-images\.npy changed"):
        sets.load(store, "mine", "train", "cpu")
    assert digests(prepare.prepare(store, "mine", tree, tell=silent)) == digests(record)
    assert len(sets.load(store, "mine", "train", "cpu")) == 40


def test_interrupted_mending_leaves_no_record_of_files_that_changed(tmp_path, store, monkeypatch):
    tree = small_tree(tmp_path / "tree")
    prepare.prepare(store, "mine", tree, tell=silent)
    path = store.data("mine").product("test-images.npy")
    path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.setattr(np, "save", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(store, "mine", tree, tell=silent)
    assert store.data_names() == []


# ---------------------------------------------------------------------------------- what is known of published sets


def test_verdict_tells_official_from_different_from_unknown_content():
    def facts(train: tuple[int, str], test: tuple[int, str], official: bool = False) -> dict:
        named = {"train": train, "test": test}
        return {"official": official, "splits": {k: {"images": n, "digest": d} for k, (n, d) in named.items()}}

    train, test = OFFICIAL["cifar10"].splits["train"], OFFICIAL["cifar10"].splits["test"]
    assert prepare.verdict("cifar10", facts(train, test, official=True)) == "the official CIFAR10 images"
    fewer = prepare.verdict("cifar10", facts(train, (500, "x")))
    assert fewer.startswith(
        "not known to be the official CIFAR10: train is the official one; test has 500 images where"
    )
    assert "train has different pixels" in prepare.verdict("cifar10", facts((50_000, "x"), test))
    assert "pixels are not known here" in prepare.verdict("cifar100", facts((50_000, "x"), (10_000, "y")))
    assert "nothing to compare" in prepare.verdict("mine", facts(train, test))


def unpacked(out: Path, *options: str) -> Path:
    subprocess.run([sys.executable, REAL / "unpack.py", "--out", out, *options], check=True, capture_output=True)
    return out


@with_real_images
def test_real_images_survive_preparing_pixel_for_pixel(tmp_path, store):
    options = ("--parts", "cifar10-test", "--per-class", "20")
    tree = unpacked(tmp_path, *options) / "cifar10"
    (tree / "train").symlink_to(tree / "test")
    prepare.prepare(store, "cifar10", tree, tell=silent)
    with np.load(unpacked(tmp_path, *options, "--format", "npz") / "cifar10-test.npz") as original:
        images, names = original["images"].transpose(0, 3, 1, 2), original["classes"][original["labels"]].tolist()
    expected = {image.tobytes(): name for image, name in zip(images, names, strict=True)}
    assert len(expected) == 200
    for split in SPLITS:
        assert by_pixels(sets.load(store, "cifar10", split, "cpu")) == expected


@with_real_images
@pytest.mark.slow
@pytest.mark.parametrize("split", ["cifar10-train", "cifar10-test", "cifar100-train"])
def test_known_digest_is_that_of_the_official_pixels(tmp_path, split):
    name, part = split.split("-")
    parts = [path.stem for path in sorted(REAL.glob(f"{split}*.tar"))]
    with np.load(unpacked(tmp_path, "--format", "npz", "--parts", *parts) / f"{split}.npz") as original:
        images, labels = original["images"].transpose(0, 3, 1, 2), original["labels"]
        content = prepare.canonical(Content({part: (images, labels)}, tuple(original["classes"].tolist()), ""))
    found = prepare.digest(*content.splits[part], content.classes)
    assert (len(images), found) == OFFICIAL[name].splits[part]
