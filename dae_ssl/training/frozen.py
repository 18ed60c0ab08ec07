"""A trained encoder as people use it: images in, representations out, exactly as the features of a cell are made."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dae_ssl.data.prepared import SIDE
from dae_ssl.distributed import arithmetic
from dae_ssl.training.networks import REPRESENTATION_SIZE, unit_interval

BATCH = 1024
"""Images that pass through the network at a time; so many are what the features of a cell are computed with."""
Images = Tensor | npt.NDArray[Any]


class FrozenEncoder(nn.Module):
    """A trained encoder, images (n, 3, 32, 32) -> representations h (n, 8192), float32, on the encoder's device.

    h = encoder(images)                           # of any number of images
    h = encoder.to("cuda")(images)                # the encoder moves as every module does; images may lie anywhere
    h = encoder.network(images.float() / 255)     # one batch of floats as it is: no check, no move, gradients if wanted

    Images are tensors or NumPy arrays of uint8, or of floats between 0 and 1, which are uint8 images divided by 255:
    nothing else is subtracted, scaled or cropped. Some at a time pass through the network, so that memory holds few
    activations however many images there are. No gradient is kept, and the weights are not trained.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.parameters()).device

    @torch.no_grad()
    def forward(self, images: Images) -> Tensor:
        """Return the representations of images, whatever context of autocast this is called in.

        Raises ValueError for images of another shape, dtype or range, and for weights that are not float32 any more.
        """
        _require_images(images)
        weights = next(self.parameters()).dtype
        if weights != torch.float32:
            raise ValueError(f"the encoder's weights are {weights}: it computes in float32, after encoder.float()")
        h = torch.empty(len(images), REPRESENTATION_SIZE, device=self.device, dtype=torch.float32)
        with arithmetic(self.device, "fp32"), torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(images), BATCH):
                floats = self._floats(images[start : start + BATCH])
                h[start : start + BATCH] = self.network(floats.contiguous(memory_format=torch.channels_last))
        return h

    def _floats(self, images: Images) -> Tensor:
        """Return a batch as float32 in [0, 1] on the encoder's device."""
        if isinstance(images, np.ndarray):  # copied, since a tensor takes no reversed, foreign or protected memory
            images = torch.from_numpy(np.array(images, dtype=images.dtype.newbyteorder("=")))
        images = images.to(self.device)
        if images.dtype == torch.uint8:
            return unit_interval(images)
        low, high = (float(value) for value in images.aminmax())
        if not (low >= 0 and high <= 1):  # which NaN is not either
            raise ValueError(f"images hold values from {low:g} to {high:g}: give uint8 as it is, or floats in [0, 1] "
                             f"(uint8 / 255), not normalised in another way")  # fmt: skip
        return images.to(torch.float32)


def _require_images(images: object) -> None:
    """Raise ValueError for anything but a tensor or array (n, 3, 32, 32) of uint8 or floats."""
    wanted = f"give a tensor or NumPy array (n, 3, {SIDE}, {SIDE}) of uint8, or of floats in [0, 1]"
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(f"images are of type {type(images).__name__}: {wanted}")
    shape = tuple(images.shape)
    if shape[1:] != (3, SIDE, SIDE):
        hint = "; channels come first, as after images.transpose(0, 3, 1, 2)" if shape[1:] == (SIDE, SIDE, 3) else ""
        hint = "; images[None] is a batch of one image" if shape == (3, SIDE, SIDE) else hint
        raise ValueError(f"images are {shape}: {wanted}{hint}")
    floating = images.is_floating_point() if isinstance(images, Tensor) else images.dtype.kind == "f"
    if not floating and str(images.dtype).removeprefix("torch.") != "uint8":
        raise ValueError(f"images are {images.dtype}: {wanted}")
