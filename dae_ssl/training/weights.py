"""Weights as safetensors: a file of named tensors that every framework reads, and nothing in it can run.

The length of the header in 8 bytes; the header, JSON padded with spaces to a multiple of 8, that tells of each tensor
its dtype, shape and place; then the tensors' values, row by row and without gaps. Every number is little-endian, as
the machines that PyTorch runs on. The format is huggingface/safetensors'; its library is not needed.
"""

import json
import math
import pickle
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dae_ssl.config import Cell
from dae_ssl.files import StoreError
from dae_ssl.training import networks
from dae_ssl.training.checkpoint import deserialise
from dae_ssl.training.methods.base import SelfSupervised

Network = TypeVar("Network", bound=nn.Module)

DTYPES = {
    "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16,
    "I32": torch.int32, "F32": torch.float32, "F64": torch.float64, "I64": torch.int64,
}  # fmt: skip
"""What is written and read, in the library's order: it lays the last of these out first."""
METADATA = "__metadata__"
LONGEST_HEADER = 1 << 20
"""Bytes; the networks' has a few thousand, the library's bound is 100 million."""
MOST_DIMENSIONS = 64
"""A tensor may have so many; PyTorch's own bound for what it can iterate over."""
LONGEST_REASON, LONGEST_SHOWN = 300, 90
"""Characters of what is wrong with a file, and of a name or value that a message repeats."""
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = 80


class WeightsError(StoreError):
    """A file that holds no weights, damaged ones or another network's; the message is one line with the reason."""


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a file; equal ones give equal bytes, however they lie in memory."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    ranks = {dtype: rank for rank, dtype in enumerate(DTYPES.values())}
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    values, end = [], 0
    for name in sorted(tensors, key=lambda name: (-ranks[tensors[name].dtype], name)):
        tensor = tensors[name].detach().cpu().contiguous()
        values.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        start, end = end, end + len(values[-1])
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(values)


def unpacked(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file. Raises WeightsError unless every byte of it is accounted for, and once."""
    header, values = _split(content)
    extents = [(*_extent(name, entry), name) for name, entry in header.items() if name != METADATA]
    tensors, end = {}, 0
    for start, stop, dtype, shape, name in sorted(extents, key=lambda extent: extent[:2]):
        _require(start == end, f"{_shown(name)} begins at byte {start}, where {end} is the first that is free")
        _require(stop <= len(values), f"{_shown(name)} ends at byte {stop} of {len(values)}")
        end = stop
        flat = torch.frombuffer(bytearray(values[start:stop]), dtype=dtype) if stop > start else torch.empty(0)
        tensors[name] = flat.to(dtype).reshape(shape)
    _require(end == len(values), f"{len(values) - end} bytes at its end belong to no tensor")
    return tensors


def read_encoder(path: Path) -> nn.Sequential:
    """Return the network that a product of pretraining holds, floats (n, 3, 32, 32) in [0, 1] -> (n, 8192).

    `dae_ssl.load_encoder` returns it as people use it. Raises WeightsError for a file that holds no encoder.
    """
    return _filled(networks.encoder(), path, "encoder of this suite")


def load_networks(path: Path, cell: Cell) -> nn.ModuleDict:
    """Return the networks that a cell's pretraining ended with, as its product holds them, by name.

    Raises WeightsError for a file that holds no such networks, or those of a cell with other ones.
    """
    method = cell.method
    if not isinstance(method, SelfSupervised):
        raise WeightsError(f"{method.name} trains no networks: name a cell of a method that does")
    return _filled(method.networks(cell.networks, cell.seed), path, f"networks of {method.name}")


def _filled(network: Network, path: Path, what: str) -> Network:
    """Return a network with the weights that a file holds. Raises WeightsError, which calls it `what`, for others."""
    try:
        content = path.read_bytes()
        # Weights were PyTorch files once; of these no more than tensors and plain values is unpickled.
        state = deserialise(content) if path.suffix == ".pt" else unpacked(content)
        _require_alike(state, network.state_dict())
        network.load_state_dict(state)
    except pickle.UnpicklingError as error:  # whose own words advise to unpickle whatever it is
        raise WeightsError(f"{path} holds no {what}, or is damaged: it holds more than tensors") from error
    except Exception as error:  # for a damaged PyTorch file any
        reason = _line(" ".join(str(error).split()), LONGEST_REASON)
        raise WeightsError(f"{path} holds no {what}, or is damaged: {reason}") from error
    return network.eval()


def _require_alike(state: Mapping[str, Any], known: Mapping[str, Tensor]) -> None:
    """Raise WeightsError for other dtypes, which loading would convert without a word, and for NaN and infinity."""
    for name, wanted in known.items() if isinstance(state, Mapping) else ():  # anything plain may have been unpickled
        value = state.get(name)
        if not isinstance(value, Tensor) or value.shape != wanted.shape:
            continue  # refused by loading
        if value.dtype != wanted.dtype:
            raise WeightsError(f"{name} is {value.dtype}, where the network has {wanted.dtype}")
        if not value.isfinite().all():
            raise WeightsError(f"{name} holds values that are not finite")


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return a file's header, its metadata checked, and the values behind it."""
    _require(len(content) >= 8, f"it has {len(content)} bytes")
    length = int.from_bytes(content[:8], "little")
    _require(length <= min(len(content) - 8, LONGEST_HEADER), f"a header of {length} bytes in {len(content)}")
    try:
        header = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_without_repetition,
                            parse_int=_whole)  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"no safetensors: its header is no JSON: {error}") from error
    _require(isinstance(header, dict), "its header is no JSON object")
    metadata = header.get(METADATA, {})
    _require(isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()),
             f"{METADATA} holds something other than texts")  # fmt: skip
    return header, memoryview(content)[8 + length :]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("a name stands in it twice")
    return named


def _whole(digits: str) -> int:
    # Every number of this format counts bytes or values of one file. Python refuses to print longer ones, or is slow.
    if len(digits) > 19 or int(digits) >= 2**63:
        raise ValueError(f"a number in it has {len(digits)} digits: 2^63 or more")
    return int(digits)


def _extent(name: str, entry: Any) -> tuple[int, int, torch.dtype, tuple[int, ...]]:
    """Return where a tensor's values start and stop, their dtype and shape, which agree with each other."""
    shown = _shown(name)
    complete = isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}
    _require(complete, f"{shown} is not told by dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise WeightsError(f"no safetensors that this program reads: {shown} has dtype {_shown(entry['dtype'])}")
    stated = f"{shown} has shape {_shown(shape)} and data_offsets {_shown(offsets)}"
    for numbers in (shape, offsets):
        _require(isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers), stated)
    _require(len(shape) <= MOST_DIMENSIONS, f"{shown} has {len(shape)} dimensions")
    # Counted as if no dimension were 0, as PyTorch does where it lays out a tensor.
    _require(math.prod(max(number, 1) for number in shape) < 2**63 // dtype.itemsize, stated)
    size = math.prod(shape) * dtype.itemsize
    _require(len(offsets) == 2 and offsets[1] - offsets[0] == size,
             f"{shown} has {size} bytes by its dtype and shape, and data_offsets {_shown(offsets)}")  # fmt: skip
    return offsets[0], offsets[1], dtype, tuple(shape)


def _shown(value: Any) -> str:
    """Return a value of a header as a message repeats it: in quotes if it is a text, short, and nothing but ASCII."""
    return _line(_BRIEF.repr(value), LONGEST_SHOWN)


def _line(text: str, longest: int) -> str:
    """Return a text, or its beginning, as a terminal shows it without being told anything by it."""
    text = text if len(text) <= longest else f"{text[:longest]}..."
    return "".join(char if " " <= char <= "~" else ascii(char)[1:-1] for char in text)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise WeightsError(f"no safetensors, or a damaged file: {otherwise}")
