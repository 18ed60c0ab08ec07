"""Every method, one file each: its settings, registered by name, and its loss of a clean image and two views.

    base         the interface between the training loop and a method
    siamese      the study's autoencoders of two views, denoising (`dae`) and not (`ae`)
    simclr       the study's baseline, `simclr`
    simsiam      `simsiam`
    single_view  autoencoders of one view, `single_view_dae` and `single_view_ae`
    layerwise    an autoencoder whose layers each have a loss of their own, `layerwise_dae`
    floors       what every method must beat: the `random` encoder and raw `pixels`

To add a method, add a file with a subclass of `SelfSupervised`; no other file changes. Importing this package registers
all methods and computes nothing: the functions that compute import torch themselves, so that plans are quick.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
