"""Sources: nothing untrusted is unpickled, a flaw is one line that names it, and digits need no network."""

import collections
import pickle
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from dae_ssl.data import prepare, sets
from dae_ssl.data.prepared import DataError
from tests.data.trees import digests, silent, small_tree, snapshot, write_official


def test_reading_an_archive_leaves_the_users_folder_as_it_was(tmp_path, store, monkeypatch):
    write_official(tmp_path / "official", monkeypatch)
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "official" / "cifar-10-python.tar.gz").rename(alone / "cifar-10-python.tar.gz")
    before = snapshot(alone)
    record = prepare.prepare(store, "cifar10", alone, tell=silent)
    assert snapshot(alone) == before
    assert record["official"]


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
