"""How a command ends that cannot go on: one line on standard error, and the exit code, decided here alone."""

import contextlib
import errno
import os
import re
import sys
from io import TextIOWrapper

from dae_ssl.cluster.queue import SlurmError
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError

BAD_INPUT = 2
INTERRUPTED = 130
NOT_EVERYWHERE = {"hydra": "hydra-core", "omegaconf": "omegaconf", "submitit": "submitit", "mlflow": "mlflow",
                  "rich": "rich", "filelock": "filelock"}  # fmt: skip
"""Packages that only some commands need, and what they are installed as."""
OUTSIDE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR,
           errno.ELOOP, errno.EIO, errno.ESTALE}  # fmt: skip
"""What a disk, a path or a place to print refuses, which is nobody's mistake here."""
LONGEST = 500
"""Characters without a space between them that a line repeats; a path has fewer."""


def make_printable() -> None:
    """Have whatever is printed go somewhere, where a stream is closed, or knows fewer letters than there are."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115  (for as long as the process lives)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ended(error: BaseException) -> int:
    """Print in one line why a command cannot go on, and return its exit code; raise again what is a mistake of ours."""
    match error:
        case ConfigError() | StoreError() | SlurmError():
            return fail(error)
        case KeyboardInterrupt():
            return fail("interrupted; what was sent, computed or saved stays", INTERRUPTED)
        case BrokenPipeError():  # whoever reads what is printed has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case OSError() if error.errno in OUTSIDE:
            with contextlib.suppress(OSError):  # which is not tried again at the end of the process
                sys.stdout.flush()
            return fail(f"{error.filename or 'what is printed'}: {error.strerror}")
        case FileNotFoundError() if not _is_somewhere():
            return fail("the folder in which this was started is gone: change to one that is there")
        case ModuleNotFoundError() if package := NOT_EVERYWHERE.get(str(error.name).partition(".")[0]):
            told = f"pip install {package}; `dae-ssl submit` computes experiments on this machine without it"
            return fail(f"this command needs {package}, which is not installed here: {told}")
    raise error


def fail(reason: object, code: int = BAD_INPUT) -> int:
    """Print one line on standard error and return the exit code."""
    print(f"error: {line(str(reason))}", file=sys.stderr)
    return code


def line(text: str) -> str:
    """Return a text as one line, whatever it repeats of what was typed: control characters escaped, long words cut."""
    escaped = "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)
    return re.sub(rf"(\S{{{LONGEST}}})\S+", r"\1...", escaped)


def _is_somewhere() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        return False
