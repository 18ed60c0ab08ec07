"""What can be told of the images without building one: their files, their locks, how their content is named."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dae_ssl.cluster.snapshot import source
from dae_ssl.compute.provenance import image_identity
from dae_ssl.config import ConfigError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import versions
from jobs.__main__ import VERBS
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-cuda12.lock", "requirements-dev.lock")
SHELL = [
    path
    for folder in ("slurm", "container", "tests", ".ci")
    for path in (ROOT / folder).glob("*")
    if path.is_file() and re.match(r"#!(/usr)?/bin/(env )?(ba)?sh", path.read_text(errors="replace"))
]


def job(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Start what the images start."""
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_linters_find_nothing_in_dockerfile_and_shell_scripts() -> None:
    def lint(program: str, *files: Path) -> "subprocess.CompletedProcess[str]":
        found = Path(sys.executable).with_name(program)
        return subprocess.run([found, *files], capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert len(SHELL) >= 6
    for done in (lint("hadolint", ROOT / "Dockerfile"), lint("shellcheck", *SHELL)):
        assert done.returncode == 0, done.stdout


def test_image_without_a_verb_lists_them() -> None:
    listed = job().stdout
    assert all(f"\n    {verb} " in listed and line in listed for verb, line in VERBS.items())


def test_loaded_libraries_are_those_that_the_lock_pins() -> None:
    # This environment comes from the developers' lock, whose packages the images share.
    done = job("versions", "--lock", "requirements.lock")
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"python", "torch", "cuda", "cudnn", "nccl"}


def test_another_cuda_than_the_lock_pins_is_told_library_by_library() -> None:
    done = job("versions", "--lock", "requirements-cuda12.lock")
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert [line.split()[1] for line in told] == ["torch", "torchvision", "cuda", "cudnn", "nccl"]
    assert f"error: torch is {pins('requirements.lock')['torch']}, and 2.10.0 is pinned" in told


@pytest.mark.parametrize(
    ("has", "pinned", "same"),
    [
        ("2.15.0+cu132", "2.15.0", True), ("13.2", "13.2.86", True), ("13", "13.2.86", True),
        ("13.1", "13.2.86", False),
        ("9.2", "9.26.0.51", False), ("9.26.0", "9.26.0.51", True), ("2.30.7", "2.30.7", True), (None, "2.30.7", False),
    ],
)  # fmt: skip
def test_a_version_agrees_with_its_pin_up_to_the_parts_it_has(has: str | None, pinned: str, same: bool) -> None:
    assert (versions.differences({} if has is None else {"x": has}, {"x": pinned}) == []) is same


def test_lock_without_torch_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.lock").write_text("numpy==2.4.6\n")
    for path, said in ((tmp_path / "empty.lock", "does not pin torch"), (tmp_path / "none", "No such file")):
        refused = job("versions", "--lock", str(path))
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_images_share_every_version_with_the_developers_and_carry_none_of_their_tools() -> None:
    runtime, developers = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime.items() <= developers.items()
    assert {"pytest", "ruff", "mypy", "playwright"} <= developers.keys() - runtime.keys()
    assert {"torch", "mlflow", "psycopg-binary", "flask-wtf", "setuptools"} <= runtime.keys()


def test_cuda_12_lock_differs_in_nothing_but_what_pytorch_brings() -> None:
    old, new = pins("requirements-cuda12.lock"), pins("requirements.lock")
    apart = {name for name, _ in old.items() ^ new.items()}
    assert all(re.match(r"torch|triton|nvidia-|cuda-", name) for name in apart), apart
    assert old["nvidia-cuda-runtime-cu12"].startswith("12.")
    assert new["nvidia-cuda-runtime"].startswith("13.")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    pinned = [number for number, line in enumerate(lines) if re.match(r"\w", line)]
    assert all(lines[number + 1].strip().startswith("--hash=sha256:") for number in pinned)


@pytest.mark.slow
@pytest.mark.parametrize("constraint", ["", "torch<2.11"])
def test_locks_are_what_the_project_resolves_to(constraint: str, tmp_path: Path) -> None:
    """Versions that a lock has already are kept by the resolver while they still do, so nothing newer shows here."""
    committed, lock = "requirements-cuda12.lock" if constraint else "requirements.lock", tmp_path / "again.lock"
    shutil.copy(ROOT / committed, lock)
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "--extra=image",
               "--universal", "--python-version=3.11", "--generate-hashes", "--no-annotate", "--no-header",
               "--constraint=-", f"--output-file={lock}"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, input=constraint, capture_output=True, text=True, timeout=300, check=False)
    if "error sending request" in done.stderr or "Could not connect" in done.stderr:
        pytest.skip("no package index is reached from here")
    assert done.returncode == 0, done.stderr
    assert pins(str(lock)) == pins(committed)


def test_image_is_told_by_the_digest_of_its_content(tmp_path: Path) -> None:
    sif = tmp_path / "dae_ssl.sif"
    sif.write_bytes(bytes(range(256)) * 5000)
    digest = hashlib.sha256(sif.read_bytes()).hexdigest()
    assert image_identity(str(sif)) == f"sha256:{digest}"
    assert image_identity(f"registry.example/dae_ssl@sha256:{digest}") == f"sha256:{digest}"


@pytest.mark.parametrize("name", ["dae_ssl:latest", "dae_ssl@sha256:12", "{folder}", "{folder}/none.sif"])
def test_image_that_may_be_another_tomorrow_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    profile = Profile(name="x", image=name.format(folder=tmp_path))
    with pytest.raises(ConfigError, match=r"^image=.* cannot be read .*: give the path of an image file, or .*@sha256"):
        source(Store(tmp_path / "store"), profile)
    assert not (tmp_path / "store").exists()
