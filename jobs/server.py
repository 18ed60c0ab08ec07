"""Start an MLflow tracking server for a group.

  dae-ssl server FOLDER
  dae-ssl server FOLDER --backend postgresql://mlflow@database/mlflow --host 10.0.0.7 --port 5000
  dae-ssl server FOLDER --secrets-only

Passwords come from the environment, or from FOLDER/secrets, a file that only its owner may read. Passwords that are in
neither are generated at the first start and written to this file. No password is ever on a command line or in a log.
slurm/mlflow_server.sbatch and compose.yaml start the server with PostgreSQL; without --backend, its database is SQLite
in the folder.
"""

import argparse
import fcntl
import os
import re
import secrets
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from dae_ssl.config import ConfigError, require
from dae_ssl.files import explained, write_bytes
from jobs import asked, grammar

SECRETS = ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "PGPASSWORD")
"""The password of the user `admin`, the key that signs sessions, and the database's password."""
AUTH = """\
[mlflow]
# Every user may read and write all experiments, and remove only their own.
default_permission = EDIT
database_uri = {backend}
admin_username = admin
# Checking a password takes a tenth of a second, and copying a cell needs many checks.
auth_cache_ttl_seconds = 60
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the server, its database, and its address."""
    asked.add_words(parser, "FOLDER", "folder of the server's secrets, artifacts and SQLite database")
    parser.add_argument("--backend", metavar="URI",
                        help="database, such as postgresql://USER@HOST/NAME; default: SQLite in the folder"
                        )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1, this machine "
                        "only")  # fmt: skip
    parser.add_argument("--port", type=grammar.whole(most=65535), default=5000, metavar="N",
                        help="port to listen on; default: 5000")  # fmt: skip
    parser.add_argument("--allowed-host", action="append", default=[], metavar="NAME",
                        help="another host name under which clients reach the server; may be repeated")  # fmt: skip
    parser.add_argument("--workers", type=grammar.whole(), default=4, metavar="N",
                        help="number of processes that answer requests; default: 4")  # fmt: skip
    parser.add_argument("--secrets-only", action="store_true",
                        help="write the missing secrets, but do not start the server")  # fmt: skip


def known_secrets(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return every secret from the environment or the folder's file, to which missing ones are added.

    Raises ConfigError if other users may read that file.
    """
    path = folder / "secrets"
    kept: dict[str, str] = {}
    if path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(f"{path} can be read by other users (mode {mode:04o}): run chmod 600 {path}")
        lines = [line.strip() for line in path.read_text().splitlines()]
        kept = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    known = kept | {name: given[name] for name in SECRETS if given.get(name)}
    missing = [name for name in SECRETS if not known.get(name)]
    if missing:
        made = {name: secrets.token_urlsafe(24) for name in missing}
        known |= made
        before = os.umask(0o077)
        try:
            write_bytes(path, "".join(f"{name}={value}\n" for name, value in (kept | made).items()).encode())
        finally:
            os.umask(before)
        print(f"{', '.join(missing)}: generated and written to {path}", flush=True)
    return known


def hold(folder: Path) -> None:
    """Lock a folder against other servers for as long as this process lives, also after `exec`.

    The batch script locks its database with another lock, since the database starts before this server. Raises
    ConfigError if another server has the lock.
    """
    file = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another server uses {folder}: stop it first, or name another folder") from None
    os.set_inheritable(file, True)


def without_password(backend: str) -> str:
    """Return the URI of a database. Raises ConfigError if it contains a password."""
    if re.match(r"[^:/]+://[^/@]*:[^/@]*@", backend) or "password=" in backend:
        raise ConfigError("--backend contains a password: put it into PGPASSWORD or FOLDER/secrets instead")
    return backend


def command(given: argparse.Namespace, folder: Path) -> list[str]:
    """Return the command that starts the server; it contains no secret."""
    names = dict.fromkeys((given.host, "localhost", "127.0.0.1", *given.allowed_host))
    hosts = [host for name in names for host in (name, f"{name}:{given.port}")]  # a proxy may leave out the port
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
        "--host", given.host, "--port", str(given.port), "--workers", str(given.workers),
        "--allowed-hosts", ",".join(hosts), "--cors-allowed-origins", ",".join(origins),
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Become the server, or return 0 with `--secrets-only`. Raises ConfigError, or StoreError for its folder."""
    what = "one folder, in which the server keeps its secrets, artifacts and SQLite database"
    require(len(given.words) == 1, "FOLDER", " ".join(given.words), what)
    folder = Path(given.words[0]).resolve()
    os.umask(0o077)  # other users may not read what it writes
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        known = known_secrets(folder, os.environ)
        backend = without_password(given.backend or f"sqlite:///{folder / 'mlflow.db'}")
        if given.secrets_only:
            return 0
        hold(folder)
        write_bytes(folder / "auth.ini", AUTH.format(backend=backend.replace("%", "%%")).encode())
    environment = os.environ | known | {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its processes would outlive the server
    }  # fmt: skip
    environment.pop("MLFLOW_TRACKING_URI", None)  # it is meant for clients
    return os.execve(sys.executable, command(given, folder), environment)
