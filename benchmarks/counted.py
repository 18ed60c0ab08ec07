"""Count from shapes what work needs at least: floating-point operations, and bytes read and written in memory."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dae_ssl.config import Cell
from dae_ssl.training.methods.base import SelfSupervised

ITEM_BYTES = {"bf16": 2, "tf32": 4, "fp32": 4}
"""Bytes of a value of activations, and of what comes back to them."""
ADAM_PASSES = 7
"""Over the weights, in float32: weight, gradient and two moments are read, weight and moments are written."""
WEIGHED = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def step(cell: Cell) -> tuple[int, int]:
    """Return the operations and the bytes of one training step on two views of each image of a batch.

    Operations: every product, forward and backward; 600 MFLOP an image for a denoising autoencoder. Bytes: each layer
    with weights reads its input and writes its output; backward it reads the output's gradient and writes the input's,
    and reads input and output's gradient for the weights' gradient; all between the layers is as if done on the way.
    To that come the weights' update, the clean images and both views, float32, written, and read from bytes.
    """
    batch = cell.optimisation.batch_size
    assert isinstance(cell.method, SelfSupervised)
    networks = cell.method.networks(cell.networks, cell.seed).to("meta")
    moved = _moved(networks)
    pixels = batch * 3 * 32 * 32
    with FlopCounterMode(display=False) as flop:
        h = networks["encoder"](torch.empty(2 * batch, 3, 32, 32, device="meta"))
        z = networks["projector"](h)
        (networks["decoder"](z) if "decoder" in networks else z).sum().backward()
    weights = sum(parameter.numel() for parameter in networks.parameters())
    around = 4 * ADAM_PASSES * weights + 3 * pixels * (1 + 4)
    return flop.get_total_flops(), sum(moved) * ITEM_BYTES[cell.precision] + around


def _moved(networks: nn.ModuleDict) -> list[int]:
    """Have the networks note, layer by layer, how many activations and gradients a step moves; return the notes."""
    moved: list[int] = []

    def note(_layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        (given,) = inputs
        forward, for_weights = given.numel() + output.numel(), given.numel() + output.numel()
        backward = given.numel() + output.numel() if given.requires_grad else 0
        moved.append(forward + for_weights + backward)

    for layer in networks.modules():
        if isinstance(layer, WEIGHED):
            layer.register_forward_hook(note)
    return moved


def encoding(networks: nn.ModuleDict, images: int) -> int:
    """Return the operations of the encoder on `images` images, without gradients."""
    with FlopCounterMode(display=False) as flop, torch.no_grad():
        networks["encoder"].to("meta")(torch.empty(images, 3, 32, 32, device="meta"))
    return int(flop.get_total_flops())


def view(size: int) -> int:
    """Return the bytes of one view: an image's bytes read, float32 written; its parameters are a hundredth of that."""
    return 3 * size * size * (1 + 4)
