"""What tasks run is a copy of the code, named by its content."""

from pathlib import Path

import pytest

import dae_ssl
from dae_ssl.cluster import snapshot
from dae_ssl.config import ConfigError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store

FILES = ["dae_ssl/part.py", "jobs/part.py", "slurm/part.py", "hydra_plugins/dae_ssl_launcher.py"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout in the place of this one: a file in each package, and others that no task needs."""
    root = tmp_path / "checkout"
    others = ("dae_ssl/__pycache__/part.pyc", "README.md", "hydra_plugins/theirs/launcher.py")
    for name in (*FILES, *others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / FILES[1]).chmod(0o755)
    monkeypatch.setattr(dae_ssl, "__file__", str(root / "dae_ssl" / "__init__.py"))
    return root


def copied(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("checkout")
def test_snapshot_holds_what_tasks_run_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = store.snapshot(snapshot.snapshot(store)).path
    assert copied(folder) == {name: name for name in FILES}
    assert [bool((folder / name).stat().st_mode & 0o100) for name in FILES[:2]] == [False, True]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing is left aside"


def test_same_code_is_copied_once_and_other_code_under_another_name(checkout: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = snapshot.snapshot(store)
    made = store.snapshot(first).path.stat().st_ino
    assert snapshot.snapshot(store) == first
    assert store.snapshot(first).path.stat().st_ino == made
    (checkout / FILES[0]).write_text("other")
    second = snapshot.snapshot(store)
    assert second != first
    assert copied(store.snapshot(first).path)[FILES[0]] == FILES[0]
    assert copied(store.snapshot(second).path)[FILES[0]] == "other"


def test_content_that_moves_to_another_file_is_other_code(checkout: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = snapshot.snapshot(store)
    (checkout / FILES[0]).rename(checkout / "dae_ssl" / "other.py")
    assert snapshot.snapshot(store) != first


@pytest.mark.usefixtures("checkout")
def test_image_is_named_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAE_SSL_COMMIT", "0123abc")
    digest = f"sha256:{'a' * 64}"
    named = snapshot.source(Store(tmp_path / "store"), Profile.of("mine", {"image": f"lab/dae@{digest}"}))
    assert (named.image, named.commit) == (digest, "0123abc")
    assert snapshot.source(Store(tmp_path / "store"), Profile.of("mine", {})).image is None
    with pytest.raises(ConfigError, match=r"image=lab/dae:latest cannot be read"):
        snapshot.source(Store(tmp_path / "store"), Profile.of("mine", {"image": "lab/dae:latest"}))
