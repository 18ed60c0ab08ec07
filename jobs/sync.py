"""Copy the cells of a store to MLflow.

  dae-ssl sync
  dae-ssl sync --profile gpu4                                      copy to the server that the profile names
  MLFLOW_TRACKING_URI=https://tracking.example dae-ssl sync

Only what MLflow lacks is copied, so the command can be repeated. Without a server the copy goes to an SQLite file in
the store. The user name and password are read from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
"""

import argparse
import contextlib
from collections.abc import Sequence

from dae_ssl.compute import cells
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.store import Folder, Store
from jobs import asked, profiles
from jobs.endings import fail

NOT_ALL = 1
"""The exit code if some cells were not copied in full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the experiment in MLflow, the profile that names the server, and `--dry-run`."""
    asked.add_mlflow_experiment(parser)
    asked.add_profile(parser, help="profile whose tracking_uri names the server")
    parser.add_argument("--dry-run", action="store_true", help="list what would be copied and where; copy nothing")


def run(given: argparse.Namespace) -> int:
    """Copy every cell; return 1 if some were not copied in full. Raises ConfigError if the store has no cells."""
    from dae_ssl.tracking import server

    store = Store(given.store)
    named = profiles.profile(given.profile).tracking_uri if given.profile else None
    uri, folders = named or server.tracking_uri(store.root), store.cells()
    if not folders:
        raise ConfigError(f"{store.root} has no cells: name another store with --store FOLDER")
    print(f"copying to {server.address(uri)}")
    try:
        whole = copied(folders, store, uri, given.mlflow_experiment, dry=given.dry_run)
    except server.AwayError as error:
        return fail(error, NOT_ALL)
    if not whole:
        return fail("some cells were not copied in full: run the command again", NOT_ALL)
    with contextlib.suppress(server.TrackError):  # every cell is copied, so only the view can be missing
        if not given.dry_run:
            print(server.prepare(uri, given.mlflow_experiment))
    return 0


def copied(folders: Sequence[Folder], store: Store, uri: str, experiment: str, *, dry: bool) -> bool:
    """Copy every cell that has been started, print a line for each, and return whether all were copied in full.

    Raises server.AwayError if the server cannot be reached.
    """
    from dae_ssl.tracking import copying, runs, server

    whole = True
    for folder in folders:
        try:
            cell = cells.described(folder)
            if not cells.begun(cell, store):
                continue
            run = runs.cell_run(cell, store, experiment)
            if dry:
                print(f"{folder.key}: {run.name}")
                continue
            sent = copying.copy(run, uri)
            print(f"{folder.key}: {run.name}: {sent.points_sent} points and {sent.artifacts_sent} files sent")
        except server.AwayError:
            raise
        except (ConfigError, StoreError, server.TrackError) as error:
            whole = False
            print(f"{folder.key}: {error}")
    return whole
