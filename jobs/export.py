"""Write a cell's encoder to a folder that stands by itself.

  dae-ssl export 3f0c1d encoder                       a cell of the store, by the beginning of its key
  dae-ssl export method=dae method.embedding=l2 method.alpha=1 encoder
  dae-ssl export method=dae encoder --scale demo

The folder, which is the last word, holds encoder.safetensors, settings.json with every setting and score, and a model
card, README.md, with the measured table and the lines of PyTorch that load the encoder where this package is not
installed. An export that is there already is replaced; any other folder is refused.
"""

import argparse
from pathlib import Path

from dae_ssl.config import ConfigError
from dae_ssl.store import Store
from jobs import asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a cell and a folder."""
    asked.add_cell(parser, "CELL | NAME=VALUE... FOLDER")


def run(given: argparse.Namespace) -> int:
    """Write the folder, and print where it is and how it is loaded. Raises StoreError for a cell without an encoder."""
    names, settings = asked.apart(given.words)
    if len(names) < 2 - bool(settings):
        raise ConfigError("a cell and a folder are needed: write dae-ssl export CELL FOLDER")
    *cells, folder = names
    cell, store = asked.one_cell([*cells, *settings], given), Store(given.store)
    from dae_ssl.report import card, export

    export.write(cell, store, Path(folder))
    print(f"{Path(folder).resolve()}: {', '.join(export.FILES)}; in that folder, without this package:\n")
    print(card.LOADING, end="")
    return 0
