"""Weights as safetensors: read and written as the library does, equal weights as equal bytes, damage told."""

import io
import itertools
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell, Method
from dae_ssl.files import StoreError
from dae_ssl.store import NETWORKS, encoder_epoch, encoder_name, encoder_names
from dae_ssl.training import networks
from dae_ssl.training.checkpoint import serialise
from dae_ssl.training.weights import DTYPES, WeightsError, load_networks, packed, read_encoder, unpacked


def tensors() -> dict[str, Tensor]:
    """One tensor of every dtype, of several shapes, among them a scalar and one without values."""
    shapes = [(2, 3), (), (5,), (0, 4), (1, 2, 3, 4)]
    generator = torch.Generator().manual_seed(0)
    return {
        ('ä"\\' if rank % 2 else "") + name: torch.randint(0, 100, shape, generator=generator).to(dtype)
        for rank, ((name, dtype), shape) in enumerate(zip(DTYPES.items(), itertools.cycle(shapes), strict=False))
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def an_encoder(seed: int = 0) -> torch.nn.Sequential:
    encoder = networks.encoder()
    networks.initialise(encoder, torch.Generator().manual_seed(seed))
    return encoder


# ---------------------------------------------------------------------------------- against the library


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_bytes_are_those_that_the_library_writes(metadata: dict[str, str] | None) -> None:
    from safetensors.torch import save

    assert packed(tensors(), metadata) == save(tensors(), metadata)
    assert packed({}) == save({})


def test_library_reads_what_is_written_with_its_metadata(tmp_path: Path) -> None:
    from safetensors import safe_open

    (tmp_path / "w.safetensors").write_bytes(packed(tensors(), {"b": "1", "a": "ü"}))
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert same({name: file.get_tensor(name) for name in file.keys()}, tensors())  # noqa: SIM118  (no mapping)
        assert file.metadata() == {"a": "ü", "b": "1"}


def test_what_the_library_writes_is_read() -> None:
    from safetensors.torch import save

    assert same(unpacked(save(tensors(), {"x": "y"})), tensors())


def values_or_none(read: Any, content: bytes, refusal: type[Exception]) -> dict[str, bytes] | None:
    try:
        return {name: tensor.numpy().tobytes() for name, tensor in read(content).items()}
    except refusal:
        return None


@given(st.data())
def test_damaged_file_is_refused_or_read_as_the_library_reads_it(data: st.DataObject) -> None:
    """A changed byte may give another file that is whole; where the library sees damage, it is never overlooked."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = bytearray(packed({"a": torch.arange(3.0), "b": torch.arange(2, dtype=torch.uint8)}, {"k": "v"}))
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        content = content[: data.draw(st.integers(0, len(content)))]
    found = values_or_none(unpacked, bytes(content), WeightsError)
    assert found is None or found == values_or_none(load, bytes(content), SafetensorError)


# ---------------------------------------------------------------------------------- equal weights, equal bytes


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(lambda t: t.to(memory_format=torch.channels_last), id="channels-last"),
        pytest.param(lambda t: torch.cat([t, t])[len(t) :], id="part-of-a-larger-storage"),
        pytest.param(lambda t: t.clone().requires_grad_(), id="with-gradient"),
    ],
)
def test_equal_tensors_give_equal_bytes_however_they_are_stored_and_ordered(stored: Any) -> None:
    one, other = torch.arange(96.0).view(2, 3, 4, 4), torch.arange(5.0)
    assert packed({"b": stored(one), "a": other}, {"x": "1", "y": "2"}) == packed(
        {"a": other, "b": one}, {"y": "2", "x": "1"}
    )


def test_tensors_can_be_written_to_and_share_nothing() -> None:
    found = unpacked(packed({"a": torch.zeros(2), "b": torch.zeros(2)}))
    found["a"] += 1
    assert found["b"].tolist() == [0, 0]


# ---------------------------------------------------------------------------------- damage


def a_file(header: Any, values: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def told(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has 0 bytes"),
        (b"1234567", "it has 7 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808 bytes in 10"),
        (a_file(b"{"), "its header is no JSON"),
        (a_file(b"\xff"), "its header is no JSON"),
        (a_file(b"[" * 100_000), "its header is no JSON"),
        (a_file([]), "no JSON object"),
        (a_file(b'{"a": 1, "a": 2}'), "a name stands in it twice"),
        (a_file({"__metadata__": {"a": 1}}), "something other than texts"),
        (a_file({"__metadata__": []}), "something other than texts"),
        (a_file({"a": 1}), "'a' is not told by"),
        (a_file({"a": {"dtype": "F32", "shape": []}}, bytes(4)), "'a' is not told by"),
        (a_file({"a": told("F31")}, bytes(8)), "'a' has dtype 'F31'"),
        (a_file({"a": told(["F32"])}, bytes(8)), "'a' has dtype ['F32']"),
        (a_file({"a": told(shape=[-2])}, bytes(8)), "shape [-2]"),
        (a_file({"a": told(shape=[2.0])}, bytes(8)), "shape [2.0]"),
        (a_file({"a": told(shape=2)}, bytes(8)), "shape 2"),
        (a_file({"a": told(shape=[True, 2])}, bytes(8)), "shape [True, 2]"),
        (a_file({"a": told(offsets=[0])}, bytes(8)), "data_offsets [0]"),
        (a_file({"a": told(offsets=[8, 0])}, bytes(8)), "8 bytes by its dtype and shape"),
        (a_file({"a": told(shape=[3])}, bytes(8)), "12 bytes by its dtype and shape"),
        (a_file({"a": told("U8", [2**62], [0, 2**62])}, bytes(8)), "ends at byte 4611686018427387904 of 8"),
        (a_file({"a": told(shape=[2**62], offsets=[0, 2**64])}, bytes(8)), "has 20 digits: 2^63 or more"),
        (a_file({"a": told(shape=[2**63], offsets=[0, 8])}, bytes(8)), "has 19 digits: 2^63 or more"),
        (a_file({"a": told(shape=[-(10**4000)])}, bytes(8)), "has 4002 digits: 2^63 or more"),
        (
            a_file(f'{{"a": {{"dtype": "F32", "shape": [{"9" * 5000}], "data_offsets": [0, 8]}}}}'.encode()),
            "5000 digits",
        ),
        (a_file({"a": told(shape=[0, 10**30], offsets=[0, 0])}), "has 31 digits: 2^63 or more"),
        (a_file({"a": told(shape=[0, 2**62, 2**62], offsets=[0, 0])}), "shape [0, 4611686018427387904, 46116860184273"),
        (a_file({"a": told(shape=[2**62] * 64)}), "shape [4611686018427387904, 46116860"),
        (a_file({"a": told(shape=[1] * 65, offsets=[0, 4])}, bytes(4)), "'a' has 65 dimensions"),
        (a_file({"a": told(shape=[1] * 300_000, offsets=[0, 4])}, bytes(4)), "'a' has 300000 dimensions"),
        (a_file(json.dumps({"a": told()}).ljust((1 << 20) + 1).encode(), bytes(8)), "a header of 1048577 bytes"),
        (a_file(b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}"), "'a' is not told by"),
        (a_file(b'{"a": {"dtype": ' + b"[" * 900 + b"]" * 900 + b', "shape": [], "data_offsets": []}}'), "dtype [[[["),
        (a_file({"a": told([{"b" * 500: ["c" * 500] * 99}] * 9)}), "'a' has dtype [{'bbbb"),
        (a_file({"\x1b[2J\u202e\n": 1}), r"'\x1b[2J\u202e\n' is not told by"),
        (a_file(b'{"\\udc80": 1}'), r"'\udc80' is not told by"),
        (a_file({"n" * 10_000: told()}, bytes(7)), "nnn...nnn"),
        (a_file({"a": told(shape=[1e999])}), "shape [inf]"),
        (a_file({"a": told()}, bytes(7)), "ends at byte 8 of 7"),
        (a_file({"a": told()}, bytes(9)), "1 bytes at its end belong to no tensor"),
        (a_file({"a": told(), "b": told()}, bytes(8)), "'b' begins at byte 0, where 8 is"),
        (a_file({"a": told(), "b": told(offsets=[4, 12])}, bytes(12)), "'b' begins at byte 4, where 8 is"),
        (a_file({"a": told(), "b": told(offsets=[12, 20])}, bytes(20)), "'b' begins at byte 12, where 8 is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_in_which_anything_is_wrong_is_refused_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(WeightsError) as refused:
        unpacked(content)
    assert said in str(refused.value)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


NUMBERS = st.one_of(
    st.integers(-1, 9), st.integers(), st.sampled_from([2**31, 2**62, 2**63 - 1, 2**63, 10**30, 10**400]), st.floats()
)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.sampled_from([*DTYPES, "\ud800"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
TOLD = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(list(DTYPES)) | PLAIN,
        "shape": st.lists(NUMBERS, max_size=5) | PLAIN,
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | PLAIN,
    }
)


@given(st.dictionaries(st.text(max_size=3) | st.just("__metadata__"), TOLD | PLAIN, max_size=3), st.binary(max_size=16))
def test_any_header_is_read_as_the_library_reads_it_or_refused_in_one_line(header: Any, values: bytes) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = a_file(header, values)
    found = values_or_none(unpacked, content, WeightsError)
    assert found is None or found == values_or_none(load, content, SafetensorError)
    if found is None:
        with pytest.raises(WeightsError) as refused:
            unpacked(content)
        assert str(refused.value).isprintable()


# ---------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize("name", encoder_names(7))
def test_encoder_is_loaded_from_either_form(name: str, tmp_path: Path) -> None:
    encoder, images = an_encoder(), torch.rand(2, 3, 32, 32)
    state = encoder.state_dict()
    (tmp_path / name).write_bytes(serialise(state) if name.endswith(".pt") else packed(state))
    loaded = read_encoder(tmp_path / name)
    assert not loaded.training
    assert torch.equal(loaded(images), encoder(images))


def test_file_that_is_no_encoder_is_one_line_that_names_it(tmp_path: Path) -> None:
    bad = {
        "no.safetensors": packed({"a": torch.zeros(1)}),
        "cut.safetensors": packed(an_encoder().state_dict())[:-1],
        "no.pt": serialise({"a": torch.zeros(1)}),
        "list.pt": b"nothing that PyTorch wrote",
        "empty.pt": b"",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match="holds no encoder of this suite, or is damaged") as refused:
            read_encoder(tmp_path / name)
        assert str(refused.value).startswith(str(tmp_path / name))
        assert "\n" not in str(refused.value)
    with pytest.raises(StoreError, match="No such file"):
        read_encoder(tmp_path / "absent.safetensors")


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("run while it is read",)


def test_file_that_would_run_something_is_refused_without_the_advice_to_run_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Hostile(), tmp_path / "hostile.pt")
    with pytest.raises(StoreError, match="or is damaged: it holds more than tensors"):
        read_encoder(tmp_path / "hostile.pt")
    assert capsys.readouterr().out == ""


def spoilt(name: str, change: Any) -> dict[str, Tensor]:
    state = dict(an_encoder().state_dict())
    return state | {name: change(state[name].clone())}


@pytest.mark.parametrize("form", [pytest.param(serialise, id="pt"), pytest.param(packed, id="safetensors")])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        (lambda: spoilt("0.bias", lambda bias: bias.fill_(torch.nan)), "0.bias holds values that are not finite"),
        (lambda: spoilt("8.weight", lambda w: w.index_fill(0, torch.tensor(3), torch.inf)), "8.weight holds values"),
        (
            lambda: {k: v.long() for k, v in an_encoder().state_dict().items()},
            "is torch.int64, where the network has torch.float32",
        ),
        (
            lambda: {k: v.double() for k, v in an_encoder().state_dict().items()},
            "is torch.float64, where the network has torch.float32",
        ),
        (lambda: spoilt("0.bias", lambda bias: bias[1:]), "size mismatch for 0.bias"),
        (lambda: {name: value for name, value in an_encoder().state_dict().items() if name != "2.bias"}, "2.bias"),
        (lambda: an_encoder().state_dict() | {"\x1b[2J\u202e": torch.zeros(1)}, r"\x1b[2J\u202e"),
        (lambda: an_encoder().state_dict() | {"n" * 10_000: torch.zeros(1)}, "nnnn..."),
    ],
)
def test_encoder_that_is_none_of_this_suite_is_told_in_one_short_line(
    form: Any, state: Any, said: str, tmp_path: Path
) -> None:
    path = tmp_path / ("e.pt" if form is serialise else "e.safetensors")
    path.write_bytes(form(state()))
    with pytest.raises(WeightsError, match="holds no encoder of this suite, or is damaged") as refused:
        read_encoder(path)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


def test_number_that_stands_for_more_than_memory_holds_is_not_unrolled(tmp_path: Path) -> None:
    endless = torch.as_strided(torch.zeros(1), (1 << 40,), (0,))
    torch.save(an_encoder().state_dict() | {"0.bias": endless}, tmp_path / "endless.pt")
    assert (tmp_path / "endless.pt").stat().st_size < 2_000_000
    with pytest.raises(WeightsError, match=r"size mismatch for 0\.bias"):
        read_encoder(tmp_path / "endless.pt")


class Runs:
    """Calls a function where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def as_archive(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def as_legacy(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("form", [as_archive, as_legacy, pickle.dumps])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "one-weight"])
@pytest.mark.parametrize("function", [os.system, eval], ids=["system", "eval"])
def test_pickle_that_would_run_something_is_refused_in_one_line_and_does_not_run(
    form: Any, whole: bool, function: Any, tmp_path: Path
) -> None:
    ran = tmp_path / "it ran"
    evil = Runs(function, f"touch '{ran}'" if function is os.system else f"__import__('os').mkdir({str(ran)!r})")
    content = form(evil if whole else an_encoder().state_dict() | {"0.weight": evil})
    (tmp_path / "evil.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="holds no encoder of this suite") as refused:
        read_encoder(tmp_path / "evil.pt")
    assert str(refused.value).isprintable()
    assert not ran.exists()
    if form is pickle.dumps:  # else it would prove nothing
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert ran.exists()


# ---------------------------------------------------------------------------------- all networks of a training


def a_cell(**method: Any) -> Cell:
    return config.cell(method={"name": "dae"} | method)


@pytest.mark.parametrize("name", sorted(name for name, kind in Method.registry.items() if kind.trains))
@pytest.mark.parametrize("write", [pytest.param(serialise, id="pt"), pytest.param(packed, id="safetensors")])
def test_networks_of_every_method_are_loaded_from_either_form(name: str, write: Any, tmp_path: Path) -> None:
    cell = config.cell(method={"name": name}, seed=1)
    trained = cell.method.networks(cell.networks, seed=2)
    path = tmp_path / ("networks.pt" if write is serialise else NETWORKS)
    path.write_bytes(write(trained.state_dict()))
    loaded = load_networks(path, cell)
    assert not loaded.training
    assert same(dict(loaded.state_dict()), dict(trained.state_dict()))


def test_library_reads_the_networks_that_are_written() -> None:
    from safetensors.torch import load

    state = a_cell().method.networks(a_cell().networks, seed=0).state_dict()
    assert same(load(packed(state)), dict(state))


def test_networks_of_another_cell_are_refused_in_one_line_that_names_the_file(tmp_path: Path) -> None:
    small = config.cell(method={"name": "dae"}, networks={"embedding_size": 8})
    (tmp_path / NETWORKS).write_bytes(packed(small.method.networks(small.networks, seed=0).state_dict()))
    for cell in (a_cell(), config.cell(method={"name": "simclr"})):
        with pytest.raises(WeightsError, match=f"holds no networks of {cell.method.name}, or is damaged") as refused:
            load_networks(tmp_path / NETWORKS, cell)
        assert str(refused.value).startswith(str(tmp_path / NETWORKS))
        assert "\n" not in str(refused.value)
    with pytest.raises(WeightsError, match="random trains no networks"):
        load_networks(tmp_path / NETWORKS, config.cell(method={"name": "random"}))


# ---------------------------------------------------------------------------------- names


def test_epoch_of_an_encoder_is_told_from_its_name_and_nothing_elses() -> None:
    assert [encoder_epoch(name) for name in (*encoder_names(0), *encoder_names(12345))] == [0, 0, 12345, 12345]
    assert encoder_name(300) == "encoder-epoch0300.safetensors"
    for name in ("networks.pt", "networks.safetensors", "encoder-epoch0300.npz", "../encoder-epoch0300.pt",
                 "encoder-epoch0300.pt.lock", "encoder-epoch" + "1" * 5000 + ".pt", "encoder-epoch" + "1" * 10 + ".pt",
                 "encoder-epoch١٢٣٤.pt", "encoder-epoch0300.pt\n"):  # fmt: skip
        assert encoder_epoch(name) is None
