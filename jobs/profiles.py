"""Profiles of clusters by their names: files of slurm/profiles, or of anywhere else, and this machine."""

from pathlib import Path
from typing import Any

from dae_ssl.config import ConfigError, closest
from dae_ssl.planning.profile import Profile

SLURM = Path(__file__).parents[1] / "slurm"
"""What is installed beside this package: batch scripts, profiles and the development cluster."""
PROFILES = SLURM / "profiles"
LOCAL = Profile(name="local", launcher="local")
"""This machine, no scheduler: the same plan, computed by this process. It is read from no file."""


def names() -> list[str]:
    """Return the names that need no path."""
    return sorted([LOCAL.name, *(path.stem for path in PROFILES.glob("*.yaml"))])


def profile(name: str) -> Profile:
    """Return the profile of a name, or of a path to a file. Raises ConfigError, one line, if it cannot be."""
    if name == LOCAL.name:
        return LOCAL
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not _is_file(path):
        hint = closest(name, names())
        raise ConfigError(f"--profile={name!r}: {hint}choose {', '.join(names())}, or the path of a .yaml file")
    return Profile.of(path.stem, _read(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # as for a name that is too long
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError
    except ModuleNotFoundError as error:
        told = "OmegaConf, which reads it, is not installed here: pip install omegaconf, or choose --profile local"
        raise ConfigError(f"profile {path}: {told}") from error
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"profile {path}: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"profile {path}: write settings, as in partition: gpu")
    return given
