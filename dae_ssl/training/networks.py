"""The study's networks (Table 3): encoder 3x32x32 -> 8192, linear projector -> 64, decoder 64 -> 3x32x32."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dae_ssl.config import Networks

REPRESENTATION_SIZE = 512 * 4 * 4


class Encoder(nn.Sequential):
    """A sequence of layers that, when compiled, adds a convolution's bias after the max-pooling that follows it.

    This writes a quarter as many sums. The values are the same, since adding one number to all keeps their order; but
    where rounding makes two sums of a window equal, the gradient goes to the one that was larger before, not to the
    first. Uncompiled, the layers run one after another, so that results measured on CPUs keep their bits.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the last layer."""
        h, layers = images, list(self.children())
        late: Tensor | None = None
        for layer, behind in zip(layers, [*layers[1:], nn.Identity()], strict=True):
            compiling = torch.compiler.is_compiling()
            if compiling and isinstance(layer, nn.Conv2d) and isinstance(behind, nn.MaxPool2d):
                h, late = layer._conv_forward(h, layer.weight, None), layer.bias
            elif late is not None:
                h, late = layer(h) + late.to(h.dtype)[:, None, None], None
            else:
                h = layer(h)
        return h


def encoder() -> nn.Sequential:
    """Return the encoder: images (n, 3, 32, 32) in [0, 1] -> representations h (n, 8192)."""
    return Encoder(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Hardtanh(inplace=True),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.Hardtanh(inplace=True),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 512, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


def projector(settings: Networks) -> nn.Linear:
    """Return the projector: representations (n, 8192) -> embeddings z (n, d)."""
    return nn.Linear(REPRESENTATION_SIZE, settings.embedding_size)


def decoder(settings: Networks) -> nn.Sequential:
    """Return the decoder: embeddings (n, d) -> reconstructions (n, 3, 32, 32) in [0, 1]."""
    return nn.Sequential(
        nn.Linear(settings.embedding_size, REPRESENTATION_SIZE),
        nn.Unflatten(1, (512, 4, 4)),
        nn.ConvTranspose2d(512, 32, 4, stride=2, padding=1),
        nn.Hardtanh(inplace=True),
        nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1),
        nn.Hardtanh(inplace=True),
        nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )


def symmetric_decoder(settings: Networks) -> nn.Sequential:
    """Return the decoder of layer-wise training, (n, d) -> (n, 3, 32, 32): a layer for each layer of the encoder.

    It is the published code's decoder. Each layer is two modules, as are the layers of the encoder and projector.
    """

    def wider(inputs: int, outputs: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)

    return nn.Sequential(
        nn.Linear(settings.embedding_size, REPRESENTATION_SIZE),
        nn.Unflatten(1, (512, 4, 4)),
        wider(512, 64),
        nn.Hardtanh(inplace=True),
        wider(64, 64),
        nn.Hardtanh(inplace=True),
        nn.ConvTranspose2d(64, 32, 3, padding=1),
        nn.Hardtanh(inplace=True),
        wider(32, 32),
        nn.Hardtanh(inplace=True),
        nn.ConvTranspose2d(32, 3, 3, padding=1),
        nn.Sigmoid(),
    )


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight from the Xavier-normal distribution and set every bias to zero, as the published code does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def unit_interval(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def pixels(images: Tensor) -> Tensor:
    """Return the raw-pixel floor's representation of uint8 images (n, 3, h, w): (n, 3 h w) in [0, 1]."""
    return unit_interval(images).flatten(1)


def frozen(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return an encoder as a function without gradient: uint8 images (n, 3, 32, 32) -> representations (n, 8192)."""
    network = copy.deepcopy(network)  # the caller may go on training its own
    network.to(device).to(memory_format=torch.channels_last).requires_grad_(False).eval()

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        floats = unit_interval(images.to(device)).contiguous(memory_format=torch.channels_last)
        representations: Tensor = network(floats)
        return representations

    return encode
