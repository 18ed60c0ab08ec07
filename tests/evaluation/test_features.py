"""Features written and read back, and every way in which a file cannot be trusted."""

import hashlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from dae_ssl import files
from dae_ssl.evaluation import features
from dae_ssl.evaluation.features import FeaturesError
from dae_ssl.files import Written


@dataclass(frozen=True)
class Split:
    images: Tensor
    labels: Tensor
    ids: Tensor


def split(images: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.randint(256, (images, 3, 4, 4), dtype=torch.uint8, generator=generator),
        torch.randint(10, (images,), generator=generator),
        torch.randperm(images, generator=generator) + 1000 * seed,
    )


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255


SPLITS = {"train": split(50), "validation": split(7, 1), "test": split(20, 2)}


def written(path: Path, dtype: str = "float16", encode: Callable[[Tensor], Tensor] = pixels) -> Path:
    features.write(path, SPLITS, encode, dtype=dtype, attributes={"node": "abc", "git": "1f"}, batch_size=16)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_read_is_what_was_encoded(tmp_path: Path, dtype: str) -> None:
    path = written(tmp_path / "f.h5", dtype)
    for name, images in SPLITS.items():
        read = features.read(path, name, expect={"node": "abc"})
        assert torch.equal(read.representations, pixels(images.images).to(getattr(torch, dtype)))
        assert torch.equal(read.labels, images.labels)
        assert torch.equal(read.ids, images.ids)


def test_batch_size_does_not_matter_and_no_batch_is_larger(tmp_path: Path) -> None:
    sizes = []

    def encode(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return pixels(images)

    written(tmp_path / "f.h5", encode=encode)
    assert sizes == [16, 16, 16, 2, 7, 16, 4]


def test_encoding_keeps_no_graph(tmp_path: Path) -> None:
    layer = torch.nn.Linear(48, 5)
    outputs = []

    def encode(images: Tensor) -> Tensor:
        outputs.append(layer(pixels(images)))
        return outputs[-1]

    written(tmp_path / "f.h5", encode=encode)
    assert not any(output.requires_grad for output in outputs)


def test_attributes_say_what_the_file_is(tmp_path: Path) -> None:
    found = features.attributes(written(tmp_path / "f.h5"))
    assert found == {
        "format": features.FORMAT,
        "version": features.VERSION,
        "node": "abc",
        "git": "1f",
        "train_images": 50,
        "validation_images": 7,
        "test_images": 20,
        "complete": True,
    }


def test_representations_are_stored_contiguously(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "f.h5")) as file:
        assert all(file[name]["representations"].chunks is None for name in SPLITS)


# Larger and smaller than the blocks in which HDF5 places small things, so that all orders on disk come up.
@pytest.mark.parametrize(
    "sizes", [(50, 7, 20), (3000, 1, 2), (1, 3000, 40), (2, 2, 3000), (1, 1, 1), (1025, 1024, 511)]
)
@pytest.mark.parametrize("attributes", [0, 5000])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_digest_made_while_writing_is_that_of_the_file(
    tmp_path: Path, sizes: tuple[int, ...], attributes: int, dtype: str
) -> None:
    splits = {name: split(size, seed) for seed, (name, size) in enumerate(zip(SPLITS, sizes, strict=True))}
    path = tmp_path / "f.h5"
    made = features.write(path, splits, pixels, dtype=dtype, attributes={"long": "x" * attributes}, batch_size=512)
    with path.open("rb") as file:
        assert made == Written(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    for name, images in splits.items():
        read = features.read(path, name)
        assert torch.equal(read.representations, pixels(images.images).to(getattr(torch, dtype)))


def test_a_file_is_not_read_again_to_be_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail(f"{path} is read a second time"))
    written(tmp_path / "f.h5")


def test_an_encoder_may_use_its_memory_again(tmp_path: Path) -> None:
    memory = torch.empty(16, 48)

    def encode(images: Tensor) -> Tensor:
        return memory[: len(images)].copy_(pixels(images))

    read = features.read(written(tmp_path / "f.h5", "float32", encode), "train")
    assert torch.equal(read.representations, pixels(SPLITS["train"].images))


def test_representations_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"representations are \(7, 1\): the first had 48 features"):
        written(tmp_path / "f.h5", encode=lambda images: pixels(images)[:, : 1 if len(images) == 7 else None])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_kept_is_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    kept, path = features.Kept(SPLITS), tmp_path / "f.h5"
    monkeypatch.setattr(features.Kept, "fits", lambda *_: True)
    features.write(path, SPLITS, pixels, dtype=dtype, attributes={}, batch_size=16, kept=kept)
    sets = kept.sets()
    assert sets is not None
    for name in SPLITS:
        read = features.read(path, name)
        for part in ("representations", "labels", "ids"):
            assert torch.equal(getattr(sets[name], part), getattr(read, part))
            assert getattr(sets[name], part).dtype == getattr(read, part).dtype


@pytest.mark.parametrize("answers", [[False, True, True], [False, False, False]])
def test_all_splits_are_kept_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> None:
    kept = features.Kept(SPLITS)
    monkeypatch.setattr(features.Kept, "fits", lambda *_: answers.pop(0))
    features.write(tmp_path / "f.h5", SPLITS, pixels, dtype="float16", attributes={}, batch_size=16, kept=kept)
    assert kept.sets() is None


def test_a_cpu_keeps_nothing(tmp_path: Path) -> None:
    kept = features.Kept(SPLITS)
    features.write(tmp_path / "f.h5", SPLITS, pixels, dtype="float16", attributes={}, kept=kept)
    assert kept.sets() is None


@pytest.mark.cuda
def test_a_gpu_writes_what_a_cpu_writes(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    splits = {name: split(size, seed) for seed, (name, size) in enumerate({"train": 20_000, "test": 3000}.items())}
    on_gpu = {name: Split(s.images.cuda(), s.labels.cuda(), s.ids.cuda()) for name, s in splits.items()}
    makes = {"cpu": splits, "cuda": on_gpu}
    kept = {device: features.Kept(own) for device, own in makes.items()}
    made = {
        device: features.write(
            tmp_path / device, own, pixels, dtype="float16", attributes={}, batch_size=256, kept=kept[device]
        )
        for device, own in makes.items()
    }
    assert made["cpu"] == made["cuda"]
    assert made["cuda"].sha256 == files.sha256(tmp_path / "cuda")
    sets = kept["cuda"].sets()
    assert sets is not None
    for name in splits:
        read = features.read(tmp_path / "cuda", name, device="cuda")
        assert torch.equal(sets[name].representations, read.representations)


MEMORY = """
    import sys, types, torch
    from pathlib import Path
    from dae_ssl.evaluation import features

    def peak():
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def encode(images):
        return images.flatten(1).float().repeat(1, 4096)

    def split(images):
        numbers = torch.arange(images)
        return types.SimpleNamespace(images=torch.ones(images, 1, 1, 1, dtype=torch.uint8), labels=numbers, ids=numbers)

    def write(images):
        path = Path(sys.argv[1]) / f"{images}.h5"
        features.write(path, {"train": split(images)}, encode, dtype="float32", attributes={}, batch_size=64)
        size = path.stat().st_size
        path.unlink()
        return size

    write(640)
    before = peak()
    size = write(12800)
    print(size, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    size, growth = map(int, output.split())
    assert size > 200e6
    assert growth < size / 10


# ---------------------------------------------------------------------------------- what is not written


def test_a_value_too_large_for_float16_is_refused_with_the_image_and_the_way_out(tmp_path: Path) -> None:
    def encode(images: Tensor) -> Tensor:
        return pixels(images) + 1e5 * (images.flatten(1) == SPLITS["train"].images[20].flatten()).all(1, keepdim=True)

    number = int(SPLITS["train"].ids[20])
    with pytest.raises(FeaturesError, match=f"train image {number}: .* not finite in float16; choose float32"):
        written(tmp_path / "f.h5", "float16", encode)
    written(tmp_path / "g.h5", "float32", encode)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_diverged_encoder_is_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(FeaturesError, match="the encoder has diverged"):
        written(tmp_path / "f.h5", dtype, lambda images: pixels(images) * float("nan"))


def test_unknown_names_and_empty_splits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with pytest.raises(FeaturesError, match="dtype='bfloat16': choose float16 or float32"):
        features.write(path, SPLITS, pixels, dtype="bfloat16", attributes={})
    with pytest.raises(FeaturesError, match="split 'val': choose from train, validation, test"):
        features.write(path, {"val": split(3)}, pixels, dtype="float16", attributes={})
    with pytest.raises(FeaturesError, match="split 'test' has no images"):
        features.write(path, {"test": split(0)}, pixels, dtype="float16", attributes={})


# ---------------------------------------------------------------------------------- what is not read


def refused(path: Path, name: str = "train", **more: dict[str, str]) -> str:
    """Return the message of the refusal, which is one line that names the file."""
    with pytest.raises(FeaturesError) as error:
        features.read(path, name, **more)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("share", [0, 0.001, 0.05, 0.3, 0.7, 0.95, 0.9999])
def test_a_truncated_file_is_refused_in_every_split(tmp_path: Path, share: float) -> None:
    path = written(tmp_path / "f.h5")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for name in SPLITS:
        assert "truncated" in refused(path, name)


@pytest.mark.parametrize("fatal", [1, 2, 6])
def test_a_writer_that_was_interrupted_leaves_no_file(tmp_path: Path, fatal: int) -> None:
    path, batches = tmp_path / "f.h5", []

    def encode(images: Tensor) -> Tensor:
        batches.append(images)
        if len(batches) == fatal:
            raise KeyboardInterrupt
        return pixels(images)

    with pytest.raises(KeyboardInterrupt):
        written(path, encode=encode)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_its_last_mark_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["complete"]
    assert "incomplete" in refused(path)
    with pytest.raises(FeaturesError, match="incomplete"):
        features.attributes(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    assert "does not exist" in refused(path)
    path.write_text("representations\n1, 2, 3\n")
    assert "not an HDF5 file" in refused(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["train/representations"] = np.zeros((3, 3))
    assert "not a features file" in refused(path)
    path.unlink()
    path.mkdir()
    refused(path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5")
    with h5py.File(path, "a") as file:
        file.attrs["version"] = features.VERSION + 1
    assert f"version {features.VERSION + 1}" in refused(path)


def test_another_nodes_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5")
    assert "has node=abc, where abd is expected" in refused(path, expect={"node": "abd"})
    assert "has image=none" in refused(path, expect={"image": "x"})


def test_a_missing_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    features.write(path, {"test": SPLITS["test"]}, pixels, dtype="float16", attributes={})
    assert "no split 'train': it holds test" in refused(path)


def test_arrays_of_unequal_length_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5")
    with h5py.File(path, "a") as file:
        del file["train/labels"]
        file["train/labels"] = np.zeros(49, np.int64)
    assert "should have 50 rows" in refused(path)
    with h5py.File(path, "a") as file:
        del file["train/labels"]
    assert "damaged" in refused(path)
