"""Both images, built and run for real. `make test-containers` runs these; `make test` leaves them out."""

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dae_ssl.store import Store
from tests import containers
from tests.commanded import DAE_SSL
from tests.conftest import Cluster
from tests.containers import ROOT, Apptainer, Engine, done

pytestmark = [
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]

CELL = ["method=dae", "method.embedding=l2", "method.alpha=1", "--scale=miniature"]
MINIATURE = [*CELL, "--no-floors"]
CANARY = f"canary-{secrets.token_hex(8)}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
VERSION = done(sys.executable, "-c", "import importlib.metadata as m; print(m.version('dae_ssl'))").strip()
ANYBODY = "4711:4711"
"""A user of whom the image knows nothing."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if reason := containers.why_not():
        pytest.skip(reason)
    # Not under pytest's own folders, which it keeps: these are gigabytes.
    storage = Path(done("mktemp", "-d", "/var/tmp/dae_ssl-images-XXXXXX").strip())
    made = Engine(storage)
    try:
        made.podman("import", "--change", f"ENV PATH={os.defpath}:/usr/sbin:/sbin", containers.base(), containers.BASE)
        yield made
    finally:
        made.podman("rmi", "--all", "--force")
        subprocess.run(["umount", storage / "root" / "overlay"], capture_output=True, check=False)
        shutil.rmtree(storage)


@pytest.fixture(scope="module")
def sources(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the lock that the images get."""
    lock = containers.lock()
    containers.fetch(engine, lock)
    return containers.copied(tmp_path_factory.mktemp("sources") / "project", lock)


@pytest.fixture(scope="module")
def secret(sources: Path) -> Iterator[Path]:
    """What the building machine needs and no image may keep: a private index, certificates, a password."""
    folder = sources.parent / "secrets"
    folder.mkdir()
    with containers.served(containers.wheels()) as index:
        (folder / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {index}\n# {CANARY}\n")
        (folder / "environment").write_text(f"INDEX_PASSWORD={CANARY}\n")
        (folder / "ca.crt").write_text(f"{containers.CERTIFICATES.read_text()}\n# {CANARY}\n")
        yield folder


@pytest.fixture(scope="module")
def builds(engine: Engine, sources: Path, secret: Path, scratch: Path) -> "dict[str, Future[Any]]":
    """Both images, on their way at the same time: each is mostly one process, waiting for the disk half of the time."""
    pool = ThreadPoolExecutor(2)
    return {
        "image": pool.submit(build_image, engine, sources, secret),
        "sif": pool.submit(build_sif, sources, secret, scratch),
    }


def build_image(engine: Engine, sources: Path, secret: Path) -> str:
    given = [f"--secret=id={name},src={secret / name}" for name in ("pip.conf", "ca.crt", "environment")]
    arguments = {"BASE_IMAGE": containers.BASE, "REQUIREMENTS": "requirements-test.lock",
                 "VERSION": VERSION, "COMMIT": COMMIT}  # fmt: skip
    said = engine.buildah(
        "bud", "--isolation=chroot", "--network=host", "--pull-never", "--tag=localhost/dae_ssl", *given,
        *(f"--build-arg={name}={value}" for name, value in arguments.items()), sources,
    )  # fmt: skip
    pinned = re.search(r"^torch==(\S+)", (sources / "requirements-test.lock").read_text(), re.MULTILINE)
    assert pinned is not None
    assert re.search(rf"^torch +{re.escape(pinned[1])}", said, re.MULTILINE), "the build told no versions"
    return "localhost/dae_ssl"


@pytest.fixture(scope="module")
def image(builds: "dict[str, Future[Any]]") -> str:
    """The Docker image's name."""
    return str(builds["image"].result())


@pytest.fixture(scope="module")
def store(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that anybody may write, with a cell computed in the image."""
    folder = tmp_path_factory.mktemp("store")
    folder.chmod(0o777)
    for command in (["data", "digits"], ["run", *MINIATURE]):
        ran = engine.run(
            f"--user={ANYBODY}", f"--volume={folder}:/store", "--env=DAE_SSL_IMAGE=sha256:feed", image, *command
        )
        assert ran.returncode == 0, ran.stderr
    return folder


def key(*overrides: str) -> str:
    """Return a cell's key as it is outside any container."""
    return done(*DAE_SSL, "explain", *overrides, cwd=ROOT).split()[0]


def records(store: Path) -> dict[str, dict[str, object]]:
    """Return the commit records of a store by stage; there is one cell."""
    found = [json.loads(path.read_text()) for path in store.glob("[!d]*/*/record.json")]
    return {record["stage"]: record for record in found}


# ---------------------------------------------------------------------------------- Docker


def test_image_tells_its_user_its_entry_point_its_labels_and_that_it_wants_gpus(engine: Engine, image: str) -> None:
    (told,) = json.loads(engine.podman("inspect", image))
    user, group = told["Config"]["User"].split(":")
    assert int(user) > 0, "root"
    assert group == "0", "what any user is a member of who has no group of their own"
    assert told["Config"]["Entrypoint"] == ["dae-ssl"]
    variables = dict(line.split("=", 1) for line in told["Config"]["Env"])
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert {"compute", "utility"} <= set(variables["NVIDIA_DRIVER_CAPABILITIES"].split(","))
    labels = told["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.title"] == "dae_ssl"


def test_nothing_that_the_building_machine_told_remains_in_the_image(engine: Engine, image: str) -> None:
    container = engine.buildah("from", "--pull-never", image).strip()
    root = Path(engine.buildah("mount", container).strip())
    try:
        # Every file of every layer that can be seen; a lower layer's file that a higher one deletes is found below.
        holding = subprocess.run(["grep", "-rlF", CANARY, root], capture_output=True, text=True, check=False).stdout
        assert holding == ""
        places = ("etc/pip.conf", "run/secrets", "root/.config", "root/.cache", "mnt", "tmp", "var/lib/apt/lists")
        left = [name for name in places if (root / name).is_file() or any((root / name).glob("*"))]
        assert left == []
        taken = {str(path.relative_to(root / "opt/dae_ssl")) for path in (root / "opt/dae_ssl").iterdir()}
        assert taken >= {"dae_ssl", "jobs", "hydra_plugins", "slurm", "container", "requirements.lock"}
        assert not {"tests", ".ci", ".git", "Dockerfile"} & taken, "the context is not what .dockerignore lets through"
    finally:
        engine.buildah("rm", container)
    assert CANARY not in engine.podman("inspect", image)
    assert CANARY not in engine.podman("history", "--no-trunc", image)
    layers = list((engine.storage / "root" / "overlay").glob("*/diff"))
    assert layers
    for layer in layers:
        found = subprocess.run(["grep", "-rlF", CANARY, layer], capture_output=True, text=True, check=False).stdout
        assert found == "", layer


def test_any_user_computes_a_cell_without_network_on_a_read_only_root(store: Path) -> None:
    found = records(store)
    assert found.keys() == {"pretrain", "features", "probe", "kmeans"}
    for record in found.values():
        assert record["commit"] == COMMIT
        assert record["image"] == "sha256:feed"
        versions = record["versions"]
        assert isinstance(versions, dict)
        assert versions["dae_ssl"] == VERSION
    owners = {path.stat().st_uid for path in store.rglob("*")}
    assert owners == {int(ANYBODY.split(":", maxsplit=1)[0])}


def test_cell_has_the_same_key_outside_and_is_found_there(store: Path) -> None:
    known = key(*CELL)
    assert (store / "cells" / known).is_dir()
    before = {path: path.stat().st_mtime_ns for path in store.glob("*/*/record.json")}
    outside = done(*DAE_SSL, "run", *MINIATURE, f"--store={store}", cwd=ROOT)
    assert f"cell {known}: " in outside
    assert {path: path.stat().st_mtime_ns for path in store.glob("*/*/record.json")} == before, "computed again"


def test_two_ranks_train_inside_without_network(engine: Engine, image: str, store: Path) -> None:
    ran = engine.run(
        f"--user={ANYBODY}", f"--volume={store}:/store", "--entrypoint=torchrun", image, "--standalone",
        "--nproc-per-node=2", "-m", "jobs", "run", *MINIATURE, "seed=1", "--device=cpu",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    done_by = Store(store).node("pretrain", key_of("pretrain", *CELL, "seed=1")).record()
    assert done_by is not None
    assert done_by["ranks"] == 2


def key_of(stage: str, *overrides: str) -> str:
    told = done(*DAE_SSL, "explain", *overrides, cwd=ROOT)
    return next(line.split()[1] for line in told.splitlines() if line.split()[0] == stage)


def test_job_that_does_not_exist_is_told_by_the_image(engine: Engine, image: str) -> None:
    refused = engine.run(image, "rnu")
    assert refused.returncode == 2
    assert "did you mean run?" in refused.stderr
    listed = engine.run(image)
    assert listed.returncode == 0
    assert "sync" in listed.stdout


# ---------------------------------------------------------------------------------- Apptainer


@pytest.fixture(scope="module")
def scratch(engine: Engine) -> Path:
    """A folder for gigabytes, with the base as a folder in it."""
    folder = engine.storage / "apptainer"
    (folder / "base").mkdir(parents=True)
    done("tar", "-C", folder / "base", "-xf", containers.base())
    return folder


@pytest.fixture(scope="module")
def apptainer(builds: "dict[str, Future[Any]]") -> Apptainer:
    found, _ = builds["sif"].result()
    if isinstance(found, str):
        pytest.skip(found)
    assert isinstance(found, Apptainer)
    return found


def build(
    apptainer: Apptainer, target: Path, definition: Path, base: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    arguments = {"BOOTSTRAP": "localimage", "BASE": base, "REQUIREMENTS": "requirements-test.lock"}
    used = definition.read_text()  # one that is not used is an error
    given = [f"--build-arg={name}={value}" for name, value in arguments.items() if f"{{{{ {name} }}}}" in used]
    # %files are relative to the current folder.
    command = [f"{apptainer.prefix}/usr/bin/apptainer", "build", *options, *given, str(target), str(definition)]
    env = dict(os.environ) | apptainer.environment
    return subprocess.run(
        command, env=env, cwd=definition.parent, capture_output=True, text=True, timeout=900, check=False
    )


def build_sif(sources: Path, secret: Path, scratch: Path) -> tuple[Apptainer | str, Path]:
    """Return apptainer, or why there is none, and the image that it built."""
    made, found = scratch / "dae_ssl.sif", containers.apptainer(scratch)
    if isinstance(found, str):
        return found, made
    quick = "--mksquashfs-args=-comp zstd -Xcompression-level 1"
    told = f"--build-arg=VERSION={VERSION}", f"--build-arg=COMMIT={COMMIT}"
    built = build(found, made, sources / "apptainer.def", scratch / "base", f"--bind={secret}:/mnt", quick, *told)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    row = r"^this cell +\d+\.\d\d \[.*\] +\d+\.\d\d \[.*\] +\d+\.\d\d$"
    assert re.search(row, built.stdout, re.MULTILINE), "%test ran no cell"
    return found, made


@pytest.fixture(scope="module")
def sif(apptainer: Apptainer) -> Path:
    """The Apptainer image."""
    return apptainer.scratch / "dae_ssl.sif"


def test_sif_tells_its_labels_and_what_it_runs(apptainer: Apptainer, sif: Path) -> None:
    labels = json.loads(apptainer("inspect", "--json", "--labels", sif).stdout)["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert "exec dae-ssl" in apptainer("inspect", "--runscript", sif).stdout
    everything = apptainer("inspect", "--all", sif).stdout
    assert COMMIT in everything
    (apptainer.scratch / "jobs").mkdir()
    (apptainer.scratch / "jobs" / "__init__.py").write_text("raise SystemExit('not the code of the image')")
    assert "Copy the cells" in apptainer("run", sif).stdout, "code of the folder one stands in runs instead"
    assert CANARY not in everything


def test_nothing_that_the_building_machine_told_remains_in_the_sif(apptainer: Apptainer, sif: Path) -> None:
    script = f"grep -rlF {CANARY} /opt/dae_ssl /opt/venv/lib /etc /mnt /root /var /usr; ls -A /mnt; echo looked"
    found = apptainer("exec", "--containall", "--no-home", sif, "sh", "-c", script)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "looked\n"


def test_sif_computes_the_same_cell_shut_off_from_its_host(
    apptainer: Apptainer, sif: Path, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(store / "data", tmp_path / "store" / "data")
    ran = apptainer(
        "run", "--nv", "--containall", "--cleanenv", "--no-home", "--network=none", "--net",
        f"--bind={tmp_path / 'store'}:/store", sif, "run", *MINIATURE, "--device=cpu",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert records(tmp_path / "store")["pretrain"]["commit"] == COMMIT
    # The same code, packages and processor: what Docker's image computed, this one computes bit for bit.
    known = Store(store).node("pretrain", key_of("pretrain", *CELL)).record()
    own = Store(tmp_path / "store").node("pretrain", key_of("pretrain", *CELL)).record()
    assert known is not None
    assert own is not None
    assert own["products"] == known["products"]


@pytest.mark.parametrize("code", [0, 1])
def test_build_fails_when_a_cell_fails_in_the_image(apptainer: Apptainer, sources: Path, code: int) -> None:
    # The definition's own %test and defaults, on an image whose command does nothing, or fails at a cell.
    stub = f'printf "#!/bin/sh\\ncase \\$* in run*) exit {code} ;; esac\\n" >/opt/venv/bin/dae-ssl'
    whole = re.sub(r"(?s)%files\n.*?(?=\n%)", "", (sources / "apptainer.def").read_text())
    whole = re.sub(r"    REQUIREMENTS=.*\n", "", whole)
    steps = f"%post\n    mkdir -p /opt/venv/bin\n    {stub}\n    chmod +x /opt/venv/bin/dae-ssl\n"
    stubbed = re.sub(r"(?s)%post\n.*?(?=\n%)", lambda _: steps, whole)
    (sources / "stubbed.def").write_text(stubbed)
    target = apptainer.scratch / f"stubbed-{code}"
    built = build(apptainer, target, sources / "stubbed.def", apptainer.scratch / "base", "--sandbox")
    assert (built.returncode == 0) is (code == 0), built.stdout + built.stderr
    assert target.exists() is (code == 0)


# ---------------------------------------------------------------------------------- on a cluster


@pytest.mark.cluster
def test_tasks_run_in_the_sif_and_tell_its_digest_in_records_and_in_mlflow(
    cluster: Cluster, apptainer: Apptainer, sif: Path, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(store / "data", tmp_path / "store" / "data")
    container = f"{apptainer.prefix}/usr/bin/apptainer exec --bind {tmp_path} --bind {ROOT}"
    profile = tmp_path / "inside.yaml"
    profile.write_text(
        f"partition: main\ndevice: cpu\nimage: {sif}\ncontainer: [{', '.join(container.split())}, '${{image}}']\n"
        f"environment: [APPTAINER_DROP_CAPS=CAP_SYS_RESOURCE, OMP_NUM_THREADS=1]\n"
    )
    place = f"--store={tmp_path / 'store'}"
    sweep = cluster.dae_ssl(
        "run", "--multirun", *MINIATURE, "seed=2", place, f"--profile={profile}", "hydra.launcher.look_seconds=2",
    )  # fmt: skip
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    plain = [*CELL, "seed=3"]
    cluster.ask(
        "env", f"DAE_SSL_CONTAINER={container} {sif}", f"DAE_SSL_STORE={tmp_path / 'store'}", "DAE_SSL_DEVICE=cpu",
        "DAE_SSL_RANKS=1", "APPTAINER_DROP_CAPS=CAP_SYS_RESOURCE", "sbatch", "--wait", f"--chdir={tmp_path}",
        "--export=ALL", "--mem=3G", "--cpus-per-task=2", f"{ROOT}/slurm/cell.sbatch", *plain,
    )  # fmt: skip
    digest = f"sha256:{hashlib.sha256(sif.read_bytes()).hexdigest()}"
    committed = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("[!d]*/*/record.json")]
    assert len(committed) == 8
    assert {record["image"] for record in committed} == {digest}
    assert all(record["commit"] for record in committed)
    assert {record["versions"]["python"] for record in committed} == {record_of(store)["python"]}, "not in the image"
    done(*DAE_SSL, "sync", "--store", tmp_path / "store", cwd=ROOT)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("dae_ssl").experiment_id])
    assert [run.data.tags["image"] for run in runs] == [digest] * 2


def record_of(store: Path) -> dict[str, str]:
    versions = records(store)["pretrain"]["versions"]
    assert isinstance(versions, dict)
    return versions
