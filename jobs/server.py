"""Start a group's tracking server: MLflow before a database.

  dae-ssl server FOLDER
  dae-ssl server FOLDER --backend postgresql://mlflow@database/mlflow --host 10.0.0.7 --port 5000
  dae-ssl server FOLDER --secrets-only

Passwords come from the environment, or else from FOLDER/secrets, a file that only its owner may read; what is in
neither is made up at the first start and written there. None is ever on a command line or in a log. slurm/
mlflow_server.sbatch and compose.yaml start it with PostgreSQL; without --backend it is SQLite in the folder.
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
# Whoever has a name may read and write every experiment, and remove only what is their own.
default_permission = EDIT
database_uri = {backend}
admin_username = admin
# A password takes a tenth of a second to check, many times in every copy of a cell.
auth_cache_ttl_seconds = 60
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add its folder, and where and before what it serves."""
    asked.add_words(parser, "FOLDER", "its secrets and artifacts, and SQLite")
    parser.add_argument("--backend", help="database, as in postgresql://USER@HOST/NAME; default: SQLite in the folder")
    parser.add_argument("--host", default="127.0.0.1", help="address that it listens on; default: this machine alone")
    parser.add_argument("--port", type=grammar.whole(most=65535), default=5000, metavar="N", help="5000")
    parser.add_argument("--allowed-host", action="append", default=[], metavar="NAME", help="what else people call it")
    parser.add_argument("--workers", type=grammar.whole(), default=4, metavar="N", help="processes that answer; 4")
    parser.add_argument("--secrets-only", action="store_true", help="write what secrets are missing, and start nothing")


def known_secrets(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return every secret, from the environment or the folder's file, which is completed with new ones.

    Raises ConfigError if others may read that file, or if it cannot be read.
    """
    path = folder / "secrets"
    kept: dict[str, str] = {}
    if path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(f"{path} may be read by others (mode {mode:04o}): chmod 600 {path}")
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
        print(f"{', '.join(missing)}: made up, in {path}", flush=True)
    return known


def hold(folder: Path) -> None:
    """Keep other servers from a folder for as long as this process lives, whatever it becomes.

    The batch script keeps others from its database likewise, by a lock of its own: that starts before this does.
    Raises ConfigError if there is one already.
    """
    file = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another server uses {folder}: stop it first, or name another folder") from None
    os.set_inheritable(file, True)


def without_password(backend: str) -> str:
    """Return a database's URI. Raises ConfigError if it carries a password."""
    if re.match(r"[^:/]+://[^/@]*:[^/@]*@", backend) or "password=" in backend:
        raise ConfigError("--backend carries a password: put it into PGPASSWORD or FOLDER/secrets instead")
    return backend


def command(given: argparse.Namespace, folder: Path) -> list[str]:
    """Return the command that becomes the server; nothing in it is secret."""
    names = dict.fromkeys((given.host, "localhost", "127.0.0.1", *given.allowed_host))
    hosts = [host for name in names for host in (name, f"{name}:{given.port}")]  # behind a proxy without the port
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
        "--host", given.host, "--port", str(given.port), "--workers", str(given.workers),
        "--allowed-hosts", ",".join(hosts), "--cors-allowed-origins", ",".join(origins),
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Become the server, or return 0 where only secrets are wanted. Raises ConfigError, or StoreError of its folder."""
    require(len(given.words) == 1, "FOLDER", " ".join(given.words), "one folder: its secrets and artifacts, and SQLite")
    folder = Path(given.words[0]).resolve()
    os.umask(0o077)  # nothing that it writes is for others
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
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of language models; its processes would outlive the server
    }  # fmt: skip
    environment.pop("MLFLOW_TRACKING_URI", None)  # whom a client asks is not what a server keeps
    return os.execve(sys.executable, command(given, folder), environment)
