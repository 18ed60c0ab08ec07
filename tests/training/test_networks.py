"""The networks of Table 3: their size, shapes and first weights."""

import math

import pytest
import torch
from torch import nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.config import Method, Networks
from dae_ssl.training import networks
from dae_ssl.training.methods.base import SelfSupervised

# Table 3 of the study, layer by layer: kind, and the shape of the weight (out, in, k, k; in, out, k, k if transposed).
ENCODER = [
    ("Conv2d", (32, 3, 3, 3)), ("Hardtanh", None), ("Conv2d", (32, 32, 3, 3)), ("MaxPool2d", None),
    ("Conv2d", (64, 32, 3, 3)), ("Hardtanh", None), ("Conv2d", (64, 64, 3, 3)), ("MaxPool2d", None),
    ("Conv2d", (512, 64, 3, 3)), ("MaxPool2d", None), ("Flatten", None),
]  # fmt: skip
DECODER = [
    ("Linear", (8192, 64)), ("Unflatten", None),
    ("ConvTranspose2d", (512, 32, 4, 4)), ("Hardtanh", None),
    ("ConvTranspose2d", (32, 32, 4, 4)), ("Hardtanh", None),
    ("ConvTranspose2d", (32, 3, 4, 4)), ("Sigmoid", None),
]  # fmt: skip

TRAINED = sorted(name for name, kind in Method.registry.items() if kind.trains)


def method(name: str) -> SelfSupervised:
    built = Method.registry[name]()
    assert isinstance(built, SelfSupervised)
    return built


def layers(network: nn.Sequential) -> list[tuple[str, tuple[int, ...] | None]]:
    weights = [getattr(layer, "weight", None) for layer in network]
    shapes = [None if weight is None else tuple(weight.shape) for weight in weights]
    return [(type(layer).__name__, shape) for layer, shape in zip(network, shapes, strict=True)]


def test_siamese_autoencoder_has_the_studys_number_of_parameters() -> None:
    built = method("dae").networks(Networks(), seed=0)
    assert sum(p.numel() for p in built.parameters()) == 1_697_955


def test_layers_are_those_of_table_3() -> None:
    assert layers(networks.encoder()) == ENCODER
    assert layers(networks.decoder(Networks())) == DECODER
    assert networks.projector(Networks()).weight.shape == (64, 8192)
    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    assert not [m for m in method("dae").networks(Networks(), 0).modules() if isinstance(m, norms)]


def test_shapes_go_from_images_to_reconstructions_between_0_and_1() -> None:
    built = method("dae").networks(Networks(embedding_size=7), seed=0)
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    h = built["encoder"](images)
    z = built["projector"](h)
    reconstruction = built["decoder"](100 * z)
    assert (h.shape, z.shape, reconstruction.shape) == ((5, 8192), (5, 7), (5, 3, 32, 32))
    assert reconstruction.min() >= 0
    assert reconstruction.max() <= 1


def test_representation_is_the_flattened_512_x_4_x_4_map() -> None:
    encoder, images = networks.encoder(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(encoder(images), encoder[:-1](images).reshape(2, 512, 4, 4).flatten(1))
    assert networks.REPRESENTATION_SIZE == 8192


def test_weights_are_xavier_normal_and_biases_zero() -> None:
    built = method("dae").networks(Networks(), seed=3)
    layers = [m for m in built.modules() if hasattr(m, "weight")]
    assert len(layers) == 10
    for layer in layers:
        weight = layer.weight.detach()
        # Glorot & Bengio 2010: variance 2 / (fan in + fan out), a fan being channels times the kernel's area
        area = math.prod(weight.shape[2:])
        expected = math.sqrt(2 / (area * (weight.shape[0] + weight.shape[1])))
        sampling_error = 5 / math.sqrt(2 * weight.numel())
        assert abs(weight.std().item() / expected - 1) < sampling_error
        assert abs(weight.mean().item()) < 5 * expected / math.sqrt(weight.numel())
        kurtosis = ((weight / weight.std()) ** 4).mean().item()
        assert abs(kurtosis - 3) < 5 * math.sqrt(24 / weight.numel())  # 1.8 if it were uniform
        assert not layer.bias.any()


def test_one_seed_gives_every_method_and_the_floor_the_same_encoder() -> None:
    floor = networks.encoder()
    networks.initialise(floor, torch.Generator().manual_seed(11))
    for name in TRAINED:
        for settings in (Networks(), Networks(embedding_size=9)):
            built = method(name).networks(settings, seed=11)
            assert next(iter(built)) == "encoder"
            for one, other in zip(built["encoder"].parameters(), floor.parameters(), strict=True):
                assert torch.equal(one, other), name


def test_seed_alone_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in method("dae").networks(Networks(), seed).parameters()])

    torch.manual_seed(1)
    first = weights(5)
    torch.manual_seed(2)
    assert torch.equal(first, weights(5))
    assert not torch.equal(first, weights(6))


def test_frozen_encoder_takes_bytes_and_gives_what_the_network_gives_without_gradient() -> None:
    encoder = networks.encoder()
    networks.initialise(encoder, torch.Generator().manual_seed(0))
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = encoder(images.float() / 255).detach()
    representations = networks.frozen(encoder, torch.device("cpu"))(images)
    assert not representations.requires_grad
    assert all(p.requires_grad for p in encoder.parameters()), "the network itself can go on training"
    torch.testing.assert_close(representations, expected, rtol=1e-4, atol=1e-5)


def test_raw_pixels_are_the_flattened_image_between_0_and_1() -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4) * 2
    flat = networks.pixels(images)
    assert flat.dtype == torch.float32
    assert torch.equal(flat, images.reshape(2, 48) / 255)
    assert networks.unit_interval(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
