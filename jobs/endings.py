"""How a command ends that cannot go on: one line on standard error, and the exit code, decided here alone."""

import os
import sys

from dae_ssl.cluster.queue import SlurmError
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError

BAD_INPUT = 2
INTERRUPTED = 130
NOT_EVERYWHERE = {"hydra": "hydra-core", "omegaconf": "omegaconf", "submitit": "submitit", "mlflow": "mlflow",
                  "rich": "rich", "filelock": "filelock"}  # fmt: skip
"""Packages that only some commands need, and what they are installed as."""


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
        case ModuleNotFoundError() if package := NOT_EVERYWHERE.get(str(error.name).partition(".")[0]):
            told = f"pip install {package}; `dae-ssl submit` computes experiments on this machine without it"
            return fail(f"this command needs {package}, which is not installed here: {told}")
    raise error


def fail(reason: object, code: int = BAD_INPUT) -> int:
    """Print one line on standard error and return the exit code."""
    print(f"error: {reason}", file=sys.stderr)
    return code
