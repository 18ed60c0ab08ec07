"""Prepare image sets for the suite: read once from what you have, checked, and stored in one form.

  python -m jobs.prepare_data digits                            small, embedded in scikit-learn: to try the suite
  python -m jobs.prepare_data cifar10 cifar100 --download       from the official site, checksums verified
  python -m jobs.prepare_data cifar10 cifar100 --from ARCHIVES  a folder with cifar-10-python.tar.gz and the like, or
                                                                with cifar-10-batches-py, or with cifar10/train/...
  python -m jobs.prepare_data pets --from PETS --size 32        PETS/train/CLASS/IMAGE and PETS/test/CLASS/IMAGE

A name keeps its content: preparing the same images again changes nothing, other images need another name. Only
--download uses the network.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dae_ssl.config import ConfigError
from dae_ssl.data.prepare import Source, prepare
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from jobs import flags


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command = argparse.ArgumentParser(
        prog="python -m jobs.prepare_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("names", nargs="+", metavar="NAME", help="cifar10, cifar100, digits, or a name of your own")
    source = command.add_mutually_exclusive_group()
    source.add_argument("--download", action="store_true", help="fetch the official archive (cifar10, cifar100)")
    source.add_argument("--from", dest="path", type=Path, metavar="PATH", help="an official archive, or a folder")
    command.add_argument("--size", type=int, metavar="N", help="resize a folder's images to N x N pixels")
    flags.add_store(command)
    return command


def main(arguments: Sequence[str]) -> int:
    """Prepare every named set; return 0, or 2 after one line on what cannot be done."""
    command = parser()
    given = flags.parsed(command, arguments, "store")
    if given.size is not None and (given.size < 1 or given.path is None):
        command.error(f"--size {given.size}: give a number of pixels, at least 1, together with --from FOLDER")
    for name in given.names:
        if name != "digits" and not given.download and given.path is None:
            command.error(f"{name}: say where the images come from, --from PATH or --download")
    try:
        for name in given.names:
            source: Source = "digits" if name == "digits" else given.path or "download"
            prepare(Store(given.store), name, source, size=given.size)
    except (ConfigError, StoreError, OSError) as error:
        print(f"{command.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{command.prog}: interrupted; a set counts as prepared only when it is whole", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
