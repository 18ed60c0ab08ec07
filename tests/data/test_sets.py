"""Image sets: whatever they are prepared from they hold the same bytes, and nothing half done or untrusted is read."""

import collections
import hashlib
import io
import json
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dae_ssl.config import ConfigError, Data
from dae_ssl.data import prepare, sets
from dae_ssl.data.prepared import DataError
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from jobs.__main__ import main

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
with_real_images = pytest.mark.skipif(
    not (REAL / "unpack.py").exists(), reason="no real CIFAR images in ../shared/data"
)

NAMES = ("frog", "apple", "cat", "bird", "dog", "deer", "horse", "ship", "truck", "plane")  # not alphabetical


def silent(_: str) -> None:
    pass


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def pixels(images: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (images, 3, side, side), dtype=np.uint8)


def write_tree(root: Path, splits: dict[str, tuple[np.ndarray, list[str]]]) -> Path:
    for split, (images, names) in splits.items():
        for row, (image, name) in enumerate(zip(images, names, strict=True)):
            path = root / split / name / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return root


def small_tree(root: Path, seed: int = 0, side: int = 32) -> Path:
    named = [NAMES[row % 10] for row in range(40)]
    return write_tree(
        root, {"train": (pixels(40, side, seed), named), "test": (pixels(20, side, seed + 1), named[:20])}
    )


def write_official(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Write tiny files in the layout of CIFAR-10, make their checksums the published ones, and return the content."""

    def dumped(name: str, value: object) -> list[str]:
        content = pickle.dumps(value)
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    content = {
        "train": (pixels(40), [3, 1, 4, 0, 5, 9, 2, 6, 8, 7] * 4),
        "test": (pixels(20, seed=1), [*range(10)] * 2),
    }
    files = {
        split: dumped(split, {"data": images.reshape(len(images), -1), "labels": labels})
        for split, (images, labels) in content.items()
    }
    name, checksum = dumped("batches.meta", {"label_names": list(NAMES)})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    (root / "cifar-10-python.tar.gz").write_bytes(archive.getvalue())
    own = {
        "train_list": [files["train"]],
        "test_list": [files["test"]],
        "meta": {"filename": name, "key": "label_names", "md5": checksum},
        "tgz_md5": hashlib.md5(archive.getvalue()).hexdigest(),
    }
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", type("TinyCIFAR10", (torchvision.datasets.CIFAR10,), own))
    return {split: (images, [NAMES[label] for label in labels]) for split, (images, labels) in content.items()}


def digests(record: dict) -> dict[str, str]:
    return {split: own["digest"] for split, own in record["splits"].items()}


def by_pixels(loaded: sets.ImageSet) -> dict[bytes, str]:
    """Return the class name of each image."""
    labelled = zip(loaded.images, loaded.labels.tolist(), strict=True)
    return {image.numpy().tobytes(): loaded.classes[label] for image, label in labelled}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------------------- one content, many sources


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


def test_reading_an_archive_leaves_the_users_folder_as_it_was(tmp_path, store, monkeypatch):
    write_official(tmp_path / "official", monkeypatch)
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "official" / "cifar-10-python.tar.gz").rename(alone / "cifar-10-python.tar.gz")
    before = snapshot(alone)
    record = prepare.prepare(store, "cifar10", alone, tell=silent)
    assert snapshot(alone) == before
    assert record["official"]


def test_record_is_plain_json_with_digests_and_counts(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    record = json.loads(store.data("mine").product("record.json").read_text())
    assert record["splits"]["train"]["images"] == 40
    assert record["splits"]["test"]["shape"] == [3, 32, 32]
    assert sorted(record["products"]) == ["test-images.npy", "test-labels.npy", "train-images.npy", "train-labels.npy"]
    for split in sets.SPLITS:
        loaded = sets.load(store, "mine", split, "cpu")
        own = prepare.digest(loaded.images.numpy(), loaded.labels.numpy(), loaded.classes)
        assert record["splits"][split]["digest"] == own


# ---------------------------------------------------------------------------------- what is refused


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_files_without_the_published_checksum_are_refused_and_never_unpickled(tmp_path, store, monkeypatch):
    write_official(tmp_path, monkeypatch)
    sprung = tmp_path / "sprung"
    batches = tmp_path / "cifar-10-batches-py"
    originals = {path.name: path.read_bytes() for path in batches.iterdir()}
    for name, original in originals.items():
        (batches / name).write_bytes(pickle.dumps(Trap(sprung)))
        with pytest.raises(DataError, match="published checksums"):
            prepare.prepare(store, "cifar10", tmp_path, tell=silent)
        assert not sprung.exists()
        (batches / name).write_bytes(original)
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works where it is unpickled
    prepare.prepare(store, "cifar10", tmp_path, tell=silent)


def test_made_up_cifar_folder_is_refused_by_the_real_checksums(tmp_path, store):
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (batches / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(DataError, match="published checksums"):
        prepare.prepare(store, "cifar10", tmp_path, tell=silent)
    assert not (tmp_path / "sprung").exists()
    assert store.data_names() == []


def test_archive_without_the_published_checksum_is_refused(tmp_path, store):
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("cifar-100-python/train"))
    for path in (archive, tmp_path):
        with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz does not have the published MD5 eb9058c3"):
            prepare.prepare(store, "cifar100", path, tell=silent)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def broken_tree(root: Path, flaw: str) -> Path:
    tree = small_tree(root)
    first, odd = tree / "train" / "apple" / "1.png", tree / "test" / "ship" / "odd.png"
    if flaw == "truncated":
        first.write_bytes(first.read_bytes()[:200])
    elif flaw == "no image":
        first.write_text("not an image")
    elif flaw == "other size":
        Image.new("RGB", (31, 32)).save(odd)
    elif flaw == "16 bit":
        Image.new("I;16", (32, 32)).save(odd)
    elif flaw == "no test":
        (tree / "test").rename(tree / "val")
    elif flaw == "class only in train":
        (tree / "train" / "yak").mkdir()
        first.rename(tree / "train" / "yak" / "1.png")
    elif flaw == "empty class":
        (tree / "train" / "yak").mkdir()
    return tree


@pytest.mark.parametrize(
    ("flaw", "said"),
    [
        ("truncated", r"cannot read image .*train/apple/1\.png: "),
        ("no image", r"cannot read image .*train/apple/1\.png: "),
        ("other size", r"test/ship/odd\.png is 31 x 32 pixels, the first image 32 x 32: give --size N"),
        ("16 bit", r"cannot read image .*test/ship/odd\.png: mode I.* more than 8 bits"),
        ("no test", r"has no folder test \(found: train, val\)"),
        ("class only in train", r"must have the same classes, and only one of them has yak"),
        ("empty class", r"no valid file for the classes yak"),
    ],
)
def test_flawed_tree_is_refused_in_one_line_that_names_the_flaw(tmp_path, store, flaw, said):
    with pytest.raises(DataError, match=said) as refused:
        prepare.prepare(store, "mine", broken_tree(tmp_path / "tree", flaw), tell=silent)
    assert "\n" not in str(refused.value)
    assert store.data_names() == []


def test_ten_classes_are_not_accepted_as_cifar100(tmp_path, store):
    with pytest.raises(DataError, match="has 10 classes, cifar100 has 100: use another name"):
        prepare.prepare(store, "cifar100", small_tree(tmp_path / "tree"), tell=silent)


def test_validation_folder_of_a_tree_is_left_out_and_said_to_be(tmp_path, store):
    tree = small_tree(tmp_path / "tree")
    plain = prepare.prepare(store, "plain", tree, tell=silent)
    Image.new("RGB", (32, 32)).save((tree / "val").mkdir() or tree / "val" / "1.png")
    said = []
    assert digests(prepare.prepare(store, "more", tree, tell=said.append)) == digests(plain)
    assert any("val is left out" in line for line in said)


def test_size_resizes_other_images_and_leaves_those_of_that_size(tmp_path, store):
    tree = small_tree(tmp_path / "tree")
    plain = prepare.prepare(store, "plain", tree, size=32, tell=silent)
    assert digests(plain) == digests(prepare.prepare(store, "same", tree, tell=silent))
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = (200, 100, 50)  # the centre square, which is what is kept
    Image.fromarray(wide).save(tree / "test" / "ship" / "wide.png")
    prepare.prepare(store, "mixed", tree, size=32, tell=silent)
    mixed = sets.load(store, "mixed", "test", "cpu")
    assert len(mixed) == 21
    expected = torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1).expand(3, 28, 28)
    assert sum(torch.equal(image[:, 2:-2, 2:-2], expected) for image in mixed.images) == 1


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


def test_missing_set_is_refused_naming_the_command_and_the_prepared_sets(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    for name, command in [("cifar10", "cifar10 --download"), ("digits", "digits"), ("yours", "yours --from FOLDER")]:
        with pytest.raises(DataError) as refused:
            sets.load(store, name, "train", "cpu")
        assert f"dae-ssl data {command} --store {store.root}" in str(refused.value)
        assert "(prepared: mine)" in str(refused.value)
    with pytest.raises(ConfigError, match="split='val'"):
        sets.load(store, "mine", "val", "cpu")


def test_verdict_tells_official_from_different_from_unknown_content():
    def facts(train: tuple[int, str], test: tuple[int, str], official: bool = False) -> dict:
        named = {"train": train, "test": test}
        return {"official": official, "splits": {k: {"images": n, "digest": d} for k, (n, d) in named.items()}}

    train, test = prepare.OFFICIAL["cifar10"].splits["train"], prepare.OFFICIAL["cifar10"].splits["test"]
    assert prepare.verdict("cifar10", facts(train, test, official=True)) == "the official CIFAR10 images"
    fewer = prepare.verdict("cifar10", facts(train, (500, "x")))
    assert fewer.startswith(
        "not known to be the official CIFAR10: train is the official one; test has 500 images where"
    )
    assert "train has different pixels" in prepare.verdict("cifar10", facts((50_000, "x"), test))
    assert "pixels are not known here" in prepare.verdict("cifar100", facts((50_000, "x"), (10_000, "y")))
    assert "nothing to compare" in prepare.verdict("mine", facts(train, test))


# ---------------------------------------------------------------------------------- digits


def test_digits_are_scikit_learns_enlarged_and_split_by_class_without_a_network(store, monkeypatch):
    from sklearn.datasets import load_digits

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    prepare.prepare(store, "digits", "digits", tell=silent)
    train, test = (sets.load(store, "digits", split, "cpu") for split in ("train", "test"))
    assert (len(train), len(test), train.classes) == (1297, 500, tuple("0123456789"))
    original = load_digits()
    expected = collections.Counter(
        (np.rint(image * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(original.images, original.target, strict=True)
    )
    images, labels = torch.cat([train.images, test.images]), torch.cat([train.labels, test.labels])
    small = images[:, 0, ::4, ::4]
    found = zip((image.numpy().tobytes() for image in small), labels.tolist(), strict=True)
    assert collections.Counter(found) == expected
    assert torch.equal(images, small.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].expand(-1, 3, -1, -1))
    share = test.labels.bincount() / labels.bincount()
    assert (share - 500 / 1797).abs().max() < 0.006  # one image of a class of 180


# ---------------------------------------------------------------------------------- splits


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(1, 60), st.integers(0, 5))
def test_validation_split_matches_a_slow_oracle_for_any_labels(labels, wanted, seed):
    counts = collections.Counter(labels)
    taken = {label: wanted * count // len(labels) for label, count in counts.items()}
    by_remainder = sorted(counts, key=lambda label: (-(wanted * counts[label] % len(labels)), label))
    for label in by_remainder[: wanted - sum(taken.values())]:
        taken[label] += 1
    if any(taken[label] >= counts[label] for label in counts):
        with pytest.raises(ConfigError, match=r"data\.validation_images"):
            sets.split_validation(torch.tensor(labels), wanted, seed)
        return
    expected = set()
    for label in counts:
        rows = [row for row, own in enumerate(labels) if own == label]
        rows.sort(key=lambda row: hashlib.sha256(f"validation {seed} {row}".encode()).hexdigest())
        expected |= set(rows[: taken[label]])
    train, validation = sets.split_validation(torch.tensor(labels), wanted, seed)
    assert validation.tolist() == sorted(expected)
    assert train.tolist() == sorted(set(range(len(labels))) - expected)
    assert len(validation) == wanted


def test_validation_split_is_the_one_it_has_always_been():
    _, validation = sets.split_validation(torch.arange(100) % 3, validation_images=8, seed=0)
    assert validation.tolist() == [4, 16, 30, 43, 75, 78, 92, 98]
    _, other = sets.split_validation(torch.arange(100) % 3, validation_images=8, seed=1)
    assert other.tolist() != [4, 16, 30, 43, 75, 78, 92, 98]


def test_too_large_a_validation_split_is_refused_in_one_line():
    with pytest.raises(ConfigError) as refused:
        sets.split_validation(torch.arange(100) % 10, validation_images=5000, seed=0)
    assert str(refused.value).startswith("data.validation_images=5000: choose fewer")
    assert "\n" not in str(refused.value)


def test_evaluation_splits_share_no_image_and_lose_none(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    splits = sets.evaluation_splits(store, Data(evaluate="mine", validation_images=10), "cpu")
    whole = sets.load(store, "mine", "train", "cpu")
    assert list(splits) == ["train", "validation", "test"]
    assert sorted([*splits["train"].ids.tolist(), *splits["validation"].ids.tolist()]) == list(range(40))
    assert splits["validation"].labels.bincount().tolist() == [1] * 10
    for name in ("train", "validation"):
        assert torch.equal(splits[name].images, whole.images[splits[name].ids])
        assert torch.equal(splits[name].labels, whole.labels[splits[name].ids])
    assert torch.equal(splits["test"].images, sets.load(store, "mine", "test", "cpu").images)


def test_pretraining_subset_is_fixed_by_its_seed_and_nested_in_larger_ones(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)

    def drawn(images: int | None, seed: int = 0) -> list[int]:
        chosen = sets.pretraining_images(store, Data(pretrain="mine", pretrain_images=images, split_seed=seed), "cpu")
        whole = sets.load(store, "mine", "train", "cpu")
        assert torch.equal(chosen.images, whole.images[chosen.ids])
        return chosen.ids.tolist()

    assert drawn(None) == drawn(40) == list(range(40))
    assert len(drawn(15)) == 15
    assert drawn(15) == drawn(15) == drawn(15, seed=1)
    assert set(drawn(5)) < set(drawn(15))
    with pytest.raises(ConfigError, match=r"data\.pretrain_images=41: choose null \(all\) or at most 40"):
        drawn(41)


def test_evaluation_subset_keeps_the_test_images_and_holds_validation_out_of_what_is_used(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)

    def drawn(images: int | None, seed: int = 0) -> dict[str, list[int]]:
        wanted = Data(evaluate="mine", evaluate_images=images, validation_images=10, split_seed=seed)
        return {name: split.ids.tolist() for name, split in sets.evaluation_splits(store, wanted, "cpu").items()}

    assert drawn(None) == drawn(40)
    few = drawn(25)
    used = {*few["train"], *few["validation"]}
    assert (len(few["train"]), len(few["validation"]), len(used)) == (15, 10, 25)
    assert few["test"] == drawn(None)["test"]
    assert {*drawn(25, seed=1)["train"], *drawn(25, seed=1)["validation"]} == used, "the split varies, what is used not"
    assert used < {*drawn(30)["train"], *drawn(30)["validation"]}
    with pytest.raises(ConfigError, match=r"data\.evaluate_images=41: choose null \(all\) or at most 40"):
        drawn(41)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files of images and labels that come to be read, in order."""
    names: list[str] = []
    mapped = sets._mapped
    monkeypatch.setattr(sets, "_mapped", lambda path: (names.append(path.name), mapped(path))[1])
    return names


def test_a_run_reads_each_split_once_and_draws_from_it_what_it_would_without_a_memo(tmp_path, store, read):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    memo = sets.Memo()
    for images, seed in ((None, 0), (25, 0), (25, 1), (None, 0)):
        wanted = Data(
            pretrain="mine", evaluate="mine", pretrain_images=images, evaluate_images=images, validation_images=10,
            split_seed=seed,
        )  # fmt: skip
        remembered, plain = (sets.evaluation_splits(store, wanted, "cpu", *given) for given in ((memo,), ()))
        remembered["pretraining"], plain["pretraining"] = (
            sets.pretraining_images(store, wanted, "cpu", *given) for given in ((memo,), ())
        )
        assert list(remembered) == list(plain)
        for name, split in plain.items():
            for part in ("images", "labels", "ids"):
                assert torch.equal(getattr(remembered[name], part), getattr(split, part))
        assert sets.evaluation_splits(store, wanted, "cpu", memo)["train"] is remembered["train"]
    read.clear()
    sets.load(store, "mine", "train", "cpu", memo)
    sets.evaluation_splits(store, wanted, "cpu", memo)
    assert read == []
    sets.load(store, "mine", "train", "cpu")
    assert read == ["train-images.npy", "train-labels.npy"]


def test_images_prepared_anew_under_their_name_are_read_anew(tmp_path, store):
    memo = sets.Memo()
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    before = sets.load(store, "mine", "train", "cpu", memo)
    shutil.rmtree(store.data("mine").path)
    prepare.prepare(store, "mine", small_tree(tmp_path / "other", seed=7), tell=silent)
    after = sets.load(store, "mine", "train", "cpu", memo)
    assert not torch.equal(before.images, after.images)
    assert torch.equal(after.images, sets.load(store, "mine", "train", "cpu").images)


def test_changed_file_is_refused_by_a_run_that_has_verified_the_set_but_not_read_it(tmp_path, store):
    memo = sets.Memo()
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    sets.load(store, "mine", "train", "cpu", memo)
    path = store.data("mine").product("test-images.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    time.sleep(0.01)  # times of files are as coarse as the kernel's tick
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"test-images\.npy changed"):
        sets.load(store, "mine", "test", "cpu", memo)


def test_subset_keeps_the_given_order_and_the_rows_of_the_prepared_split():
    whole = sets.ImageSet(torch.from_numpy(pixels(5)), torch.arange(5) % 2, torch.arange(5), ("a", "b"))
    twice = whole.subset(torch.tensor([4, 2, 3])).subset(torch.tensor([2, 0]))
    assert twice.ids.tolist() == [3, 4]
    assert torch.equal(twice.images, whole.images[[3, 4]])
    assert len(twice.to("cpu")) == 2


# ---------------------------------------------------------------------------------- the command


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_prepares_several_names_at_once_into_the_store_of_the_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DAE_SSL_STORE", str(tmp_path / "chosen"))
    small_tree(tmp_path / "sets" / "one")
    small_tree(tmp_path / "sets" / "two", seed=5)
    code, said, wrong = run(capsys, "one", "two", "digits", "--from", tmp_path / "sets")
    assert (code, wrong) == (0, "")
    assert "prepared 40 train and 20 test images of 10 classes" in said
    assert Store(tmp_path / "chosen").data_names() == ["digits", "one", "two"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cifar10"], "cifar10: say where the images come from, --from PATH or --download"),
        (["mine", "--download"], "mine cannot be downloaded"),
        (["mine", "--from", "nowhere/at/all"], "does not exist"),
        (["../mine", "--from", "."], "choose a data set's name"),
        (["digits", "--size", "32"], "--size=32: choose it together with --from FOLDER"),
        ([], "NAME='': choose cifar10"),
    ],
)
def test_bad_command_ends_with_code_2_and_one_line(tmp_path, capsys, arguments, said):
    code, _, wrong = run(capsys, *arguments, "--store", tmp_path / "store")
    assert code == 2
    assert said in wrong.splitlines()[-1]
    assert "Traceback" not in wrong
    assert not (tmp_path / "store").exists()


def test_download_without_a_network_says_how_to_do_without(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", fail)
    code, _, wrong = run(capsys, "cifar100", "--download", "--store", tmp_path / "store")
    assert (code, len(wrong.splitlines())) == (2, 1)
    assert "Name or service not known" in wrong
    assert "dae-ssl data cifar100 --from cifar-100-python.tar.gz" in wrong


def test_download_goes_through_the_published_checksums(tmp_path, store, monkeypatch):
    write_official(tmp_path, monkeypatch)
    archive = tmp_path / "cifar-10-python.tar.gz"

    def deliver(_url: str, folder: str, filename: str, _md5: str) -> None:
        (Path(folder) / filename).write_bytes(archive.read_bytes())

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", deliver)
    record = prepare.prepare(store, "cifar10", "download", tell=silent)
    assert record["source"] == torchvision.datasets.CIFAR10.url
    archive.write_bytes(archive.read_bytes() + b"changed")
    with pytest.raises(DataError, match="published MD5"):
        prepare.prepare(store, "cifar10", "download", tell=silent)


# ---------------------------------------------------------------------------------- the real images


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
    for split in sets.SPLITS:
        assert by_pixels(sets.load(store, "cifar10", split, "cpu")) == expected


@with_real_images
@pytest.mark.slow
@pytest.mark.parametrize("split", ["cifar10-train", "cifar10-test", "cifar100-train"])
def test_known_digest_is_that_of_the_official_pixels(tmp_path, split):
    name, part = split.split("-")
    parts = [path.stem for path in sorted(REAL.glob(f"{split}*.tar"))]
    with np.load(unpacked(tmp_path, "--format", "npz", "--parts", *parts) / f"{split}.npz") as original:
        images, labels = original["images"].transpose(0, 3, 1, 2), original["labels"]
        content = prepare.canonical(prepare.Content({part: (images, labels)}, tuple(original["classes"].tolist()), ""))
    found = prepare.digest(*content.splits[part], content.classes)
    assert (len(images), found) == prepare.OFFICIAL[name].splits[part]
