"""End a command that cannot continue: print one line on standard error and choose the exit code."""

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
                  "rich": "rich", "filelock": "filelock", "torchvision": "torchvision", "PIL": "pillow",
                  "matplotlib": "matplotlib", "skimage": "scikit-image"}  # fmt: skip
"""The modules that only some commands need, and the packages that provide them."""
OUTSIDE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR,
           errno.ELOOP, errno.EIO, errno.ESTALE}  # fmt: skip
"""The errors of disks, paths and output streams, which are not bugs in this program."""
LONGEST = 500
"""The largest number of characters of a single word in a message; paths are shorter."""


def make_printable() -> None:
    """Prevent errors in printing: replace closed streams, and escape characters that a stream cannot encode."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115  (for as long as the process lives)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ended(error: BaseException) -> int:
    """Print one line on why a command cannot continue and return its exit code; raise the error again for a bug."""
    match error:
        case ConfigError() | StoreError() | SlurmError():
            return fail(error)
        case KeyboardInterrupt():
            return fail("interrupted; everything that was submitted, computed or saved is kept", INTERRUPTED)
        case BrokenPipeError():  # the reader of the output has ended, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case OSError() if error.errno in OUTSIDE:
            with contextlib.suppress(OSError):  # so that the end of the process does not try again
                sys.stdout.flush()
            return fail(f"{error.filename or 'standard output'}: {error.strerror}")
        case FileNotFoundError() if not _is_somewhere():
            return fail("the current folder no longer exists: change to another one")
        case ModuleNotFoundError() if package := NOT_EVERYWHERE.get(str(error.name).partition(".")[0]):
            return fail(f"this command needs {package}, which is not installed: pip install {package}")
    raise error


def fail(reason: object, code: int = BAD_INPUT) -> int:
    """Print one line on standard error and return the exit code."""
    print(f"error: {line(str(reason))}", file=sys.stderr)
    return code


def line(text: str) -> str:
    """Return a text as one line, with control characters escaped and long words cut."""
    escaped = "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)
    return re.sub(rf"(\S{{{LONGEST}}})\S+", r"\1...", escaped)


def _is_somewhere() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        return False
