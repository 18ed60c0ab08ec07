"""An encoder as people use it: whatever images come, the network sees the floats that it was trained on."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dae_ssl.training import frozen, networks
from dae_ssl.training.frozen import FrozenEncoder

IMAGES = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    network = networks.encoder()
    networks.initialise(network, torch.Generator().manual_seed(1))
    return FrozenEncoder(network)


@pytest.fixture(scope="module")
def oracle(encoder: FrozenEncoder) -> Tensor:
    """What the network makes of the images in one pass, as the features of a cell are made."""
    return networks.frozen(encoder.network, torch.device("cpu"))(IMAGES).clone()


def protected(array: Any) -> Any:
    array.flags.writeable = False
    return array


FORMS: dict[str, Any] = {
    "uint8": IMAGES,
    "float32": IMAGES.float() / 255,
    "float64": IMAGES.double() / 255,
    "channels last": IMAGES.contiguous(memory_format=torch.channels_last),
    "NumPy uint8": IMAGES.numpy(),
    "NumPy float32": IMAGES.numpy().astype(np.float32) / np.float32(255),
    "NumPy float64": IMAGES.numpy() / 255,
    "NumPy of another byte order": (IMAGES.numpy() / 255).astype(">f8"),
    "NumPy that is read only": protected(IMAGES.numpy().copy()),
    "NumPy that runs backwards": IMAGES.numpy()[::-1].copy()[::-1],
    "with a gradient": (IMAGES.float() / 255).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_in_any_form_give_the_same_bits(form: str, encoder: FrozenEncoder, oracle: Tensor) -> None:
    h = encoder(FORMS[form])
    assert (h.shape, h.dtype, h.device, h.requires_grad) == ((7, 8192), torch.float32, encoder.device, False)
    assert torch.equal(h, oracle)


@pytest.mark.parametrize("around", ["autocast", "another default dtype"])
def test_what_is_set_around_it_changes_no_bit(around: str, encoder: FrozenEncoder, oracle: Tensor) -> None:
    if around == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            h = encoder(IMAGES)
    else:
        try:
            torch.set_default_dtype(torch.float64)
            h = encoder(IMAGES)
        finally:
            torch.set_default_dtype(torch.float32)
    assert h.dtype == torch.float32
    assert torch.equal(h, oracle)


def test_it_computes_in_the_arithmetic_of_features(encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[torch.device, str]]()
    arithmetic = frozen.arithmetic
    monkeypatch.setattr(frozen, "arithmetic", lambda *given: asked.append(given) or arithmetic(*given))
    encoder(IMAGES)
    assert asked == [(torch.device("cpu"), "fp32")]


def test_weights_of_another_dtype_are_refused_in_one_line() -> None:
    half = FrozenEncoder(networks.encoder()).half()
    with pytest.raises(ValueError, match=r"^the encoder's weights are torch.float16: it computes in float32, after"):
        half(IMAGES)


def test_every_grey_level_is_the_same_number_whoever_divides_it() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(networks.unit_interval(levels), torch.from_numpy(levels.numpy() / 255).to(torch.float32))


def test_images_pass_through_some_at_a_time_and_none_are_lost(
    encoder: FrozenEncoder, oracle: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = list[int]()
    hook = encoder.network.register_forward_pre_hook(lambda _network, given: sizes.append(len(given[0])))
    monkeypatch.setattr(frozen, "BATCH", 3)
    torch.testing.assert_close(encoder(IMAGES), oracle)
    hook.remove()
    assert sizes == [3, 3, 1]
    assert encoder(IMAGES[:0]).shape == (0, 8192)


def test_it_is_a_module_that_keeps_no_gradient_unless_its_network_is_used(encoder: FrozenEncoder) -> None:
    assert not encoder.training
    assert not any(weight.requires_grad for weight in encoder.parameters())
    head = torch.nn.Linear(8192, 2)
    head(encoder(IMAGES)).sum().backward()  # representations are ordinary tensors, which a probe can be trained on
    assert head.weight.grad is not None
    floats = (IMAGES.float() / 255).requires_grad_()
    encoder.network(floats).sum().backward()
    assert floats.grad is not None


BAD: list[tuple[Any, str]] = [
    (IMAGES[0], r"images are \(3, 32, 32\): .*; images\[None\] is a batch of one image"),
    (IMAGES.permute(0, 2, 3, 1), r"images are \(7, 32, 32, 3\): .*; channels come first"),
    (IMAGES[:, :1], r"images are \(7, 1, 32, 32\): give a tensor or NumPy array \(n, 3, 32, 32\)"),
    (torch.zeros(2, 3, 64, 64), r"images are \(2, 3, 64, 64\)"),
    (IMAGES.long(), "images are torch.int64: "),
    (IMAGES.numpy().astype(bool), "images are bool: "),
    ([1, 2], "images are of type list: "),
    (IMAGES.float(), "images hold values from 0 to 255: give uint8 as it is, or floats in"),
    (IMAGES.float() / 127.5 - 1, "images hold values from -1 to 1: "),
    (torch.full((1, 3, 32, 32), torch.nan), "images hold values from nan to nan: "),
]


@pytest.mark.parametrize(("images", "said"), BAD, ids=lambda part: part if isinstance(part, str) else "")
def test_what_are_no_such_images_is_one_line(images: Any, said: str, encoder: FrozenEncoder) -> None:
    with pytest.raises(ValueError, match=f"^{said}") as refused:
        encoder(images)
    assert re.fullmatch(r"[ -~]+", str(refused.value))
