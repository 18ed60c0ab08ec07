"""What every method must beat: the untrained encoder and the raw pixels."""

from dataclasses import dataclass
from typing import ClassVar

from dae_ssl.config import Method


@dataclass(frozen=True, kw_only=True)
class RandomEncoder(Method, name="random"):
    """The encoder as it is initialised; its seed is the cell's."""

    trains: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class RawPixels(Method, name="pixels"):
    """The image itself, flattened."""

    trains: ClassVar[bool] = False
    has_encoder: ClassVar[bool] = False
