"""Siamese denoising autoencoders for self-supervised learning: a paper as a batch suite, and as a library.

    import dae_ssl

    encoder = dae_ssl.load_encoder("store", method="dae", embedding="l2", alpha=1)   # or a cell's key, or a file
    h = encoder(images)                                                              # (n, 3, 32, 32) -> (n, 8192)

    cell = dae_ssl.cell(method="dae", embedding="l2", alpha=1, seed=1)
    dae_ssl.run(cell, "store")                                                       # or several cells
    print(dae_ssl.scores(cell, "store")["test_accuracy"])

Importing it imports nothing else: each name below is fetched when it is first asked for. Its rooms, each of which
imports from those above it only; what a package holds stands in its own docstring:

    config       what a cell is: settings, validation, keys; the standard library only
    files        files that appear whole or not at all, and their digests
    store        where things are: folders, atomic commits, validation; the one module that knows file names
    lock         one process for a node, on any file system, surviving its holder
    distributed  ranks, the process group, exchanges with gradients
    replay       work captured once as a CUDA graph, and replayed
    data         image sets: preparing them, loading them, their splits
    training     views, networks, losses, methods, the loop
    evaluation   features, probe, k-means, reconstruction: arrays in, scores out
    compute      what computes a cell
    tracking     the copy in MLflow
    planning     what is missing, and what it costs
    cluster      the one room that speaks SLURM
    experiments  one file for each question, and the published numbers
    report       pages of cells and of experiments
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dae_ssl.compute.cells import scores
    from dae_ssl.compute.running import run
    from dae_ssl.compute.trained import load_encoder
    from dae_ssl.config import cell
    from dae_ssl.store import Store

    __version__: str
    """The version of the package that is installed."""

__all__ = ["Store", "__version__", "cell", "load_encoder", "run", "scores"]

_PLACES = {
    "Store": "dae_ssl.store",
    "cell": "dae_ssl.config",
    "load_encoder": "dae_ssl.compute.trained",
    "run": "dae_ssl.compute.running",
    "scores": "dae_ssl.compute.cells",
}


def __getattr__(name: str) -> Any:
    """Return what people import, and remember it. Raises AttributeError for a name that is none of these."""
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("dae_ssl")
    elif name in _PLACES:
        if name in ("cell", "load_encoder", "run", "scores"):  # which know every method
            importlib.import_module("dae_ssl.training.methods")
        found = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
