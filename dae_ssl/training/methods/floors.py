"""What every method must beat: the untrained encoder and the raw pixels."""

from dataclasses import dataclass
from typing import ClassVar

from dae_ssl.config import Method


@dataclass(frozen=True, kw_only=True)
class RandomEncoder(Method, name="random"):
    """The untrained encoder, initialised from the cell's seed."""

    trains: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class RawPixels(Method, name="pixels"):
    """The pixels of the image, flattened, in place of a representation."""

    trains: ClassVar[bool] = False
    has_encoder: ClassVar[bool] = False
