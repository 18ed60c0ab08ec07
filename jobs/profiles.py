"""Find the profile of a cluster by its name: a file in slurm/profiles, any other file, or this machine."""

from pathlib import Path
from typing import Any

from dae_ssl.config import ConfigError, closest
from dae_ssl.planning.profile import Profile

SLURM = Path(__file__).parents[1] / "slurm"
"""The folder of batch scripts, profiles and the development cluster, which is installed beside this package."""
PROFILES = SLURM / "profiles"
LOCAL = Profile(name="local", launcher="local")
"""This machine without a scheduler: this process computes the plan. The profile has no file."""


def names() -> list[str]:
    """Return the names of profiles that need no path."""
    return sorted([LOCAL.name, *(path.stem for path in PROFILES.glob("*.yaml"))])


def profile(name: str) -> Profile:
    """Return the profile with a name, or in a file. Raises ConfigError if there is none or it is wrong."""
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
    except OSError:  # for example if the name is too long
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError
    except ModuleNotFoundError as error:
        advice = "pip install omegaconf, or choose --profile local"
        raise ConfigError(f"profile {path} needs OmegaConf, which is not installed: {advice}") from error
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"profile {path}: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"profile {path} has no settings: write lines such as partition: gpu")
    return given
