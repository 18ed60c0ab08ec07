"""Copy to MLflow whatever it lacks of the cells in a store.

  dae-ssl sync
  dae-ssl sync --profile gpu4                                      to the server that the profile names
  MLFLOW_TRACKING_URI=https://tracking.example dae-ssl sync

Run twice, nothing doubles. Without a server it goes to SQLite in the store. A name and a password are read from
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
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
"""The exit code where the server did not take all of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where it is copied to."""
    asked.add_mlflow_experiment(parser)
    asked.add_profile(parser, help="whose tracking_uri it is copied to")
    parser.add_argument("--dry-run", action="store_true", help="say what would be copied where, and send nothing")


def run(given: argparse.Namespace) -> int:
    """Copy every cell; return 1 if the server did not take all of it. Raises ConfigError where there is nothing."""
    from dae_ssl.tracking import server

    store = Store(given.store)
    named = profiles.profile(given.profile).tracking_uri if given.profile else None
    uri, folders = named or server.tracking_uri(store.root), store.cells()
    if not folders:
        raise ConfigError(f"{store.root} holds no cells: name the store, as in --store FOLDER")
    print(f"to {server.address(uri)}")
    try:
        whole = copied(folders, store, uri, given.mlflow_experiment, dry=given.dry_run)
    except server.AwayError as error:
        return fail(error, NOT_ALL)
    if not whole:
        return fail("some cells are not copied in full: run again", NOT_ALL)
    with contextlib.suppress(server.TrackError):  # it took every cell, so that only the view may be missing
        if not given.dry_run:
            print(server.prepare(uri, given.mlflow_experiment))
    return 0


def copied(folders: Sequence[Folder], store: Store, uri: str, experiment: str, *, dry: bool) -> bool:
    """Copy each cell of which anything was computed, a line for each, and tell whether all of it was taken.

    Raises server.AwayError.
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
