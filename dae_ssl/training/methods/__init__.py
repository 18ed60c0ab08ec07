"""Every method, one file each: its settings, registered by name, and what it computes from a clean image and two views.

    base         what the training loop asks of a method
    siamese      the study's autoencoders of two views, denoising (`dae`) and not (`ae`)
    simclr       the study's baseline, `simclr`
    simsiam      `simsiam`
    single_view  autoencoders of one view, `single_view_dae` and `single_view_ae`
    layerwise    every layer with a loss of its own, `layerwise_dae`
    floors       what every method must beat: `random` encoder and raw `pixels`

To add a method, add a file with a subclass of `SelfSupervised`; nothing else needs to know. Importing this package
registers them all and computes nothing: torch is imported by the functions that compute, so that plans are quick.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
