"""Prepare image sets: read once, checked, stored in one form.

  dae-ssl data photographs                       patches of scikit-image's photographs: the first run
  dae-ssl data digits                            scikit-learn's digits, smaller still: for tests
  dae-ssl data cifar10 cifar100 --download       from the official site, checksums verified
  dae-ssl data cifar10 cifar100 --from ARCHIVES  a folder with cifar-10-python.tar.gz and the like, or
                                                 with cifar-10-batches-py, or with cifar10/train/...
  dae-ssl data pets --from PETS --size 32        PETS/train/CLASS/IMAGE and PETS/test/CLASS/IMAGE

A name keeps its content: preparing the same images again changes nothing, other images need another name. Only
--download uses the network.
"""

import argparse
from typing import cast

from dae_ssl.config import ConfigError, closest, require
from dae_ssl.data.prepared import EMBEDDED
from jobs import asked, grammar

NAMES = "cifar10, cifar100, photographs, digits, or a name of your own"
DOWNLOADED = ("cifar10", "cifar100")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the names of data sets, and where their images come from."""
    asked.add_words(parser, "NAME...", NAMES, lambda: (*DOWNLOADED, *EMBEDDED))
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--download", action="store_true", help="fetch the official archive (cifar10, cifar100)")
    source.add_argument("--from", dest="path", type=grammar.path, metavar="PATH", help="an archive, or a folder")
    parser.add_argument("--size", type=grammar.whole(1, "a number of pixels"), metavar="N",
                        help="resize a folder's images to N x N pixels")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Prepare every named set. Raises ConfigError or StoreError, one line, for what cannot be done."""
    from dae_ssl.data.prepare import Source, prepare
    from dae_ssl.store import Store

    require(bool(given.words), "NAME", "", NAMES)
    if EMBEDDED.keys() >= set(given.words) and (given.download or given.path is not None or given.size is not None):
        name = given.words[0]
        raise ConfigError(f"{name} comes with {EMBEDDED[name]}: leave out --download, --from and --size")
    if given.size is not None and given.path is None:
        raise ConfigError(f"--size={given.size} is for the images of a folder: add --from FOLDER")
    for name in given.words:
        if name not in EMBEDDED and not given.download and given.path is None:
            meant = "" if name in DOWNLOADED else closest(name, (*DOWNLOADED, *EMBEDDED))
            raise ConfigError(f"{name}: {meant}say where the images come from, --from PATH or --download")
    for name in given.words:
        source = cast(Source, name if name in EMBEDDED else given.path or "download")
        prepare(Store(given.store), name, source, size=given.size)
    return 0
