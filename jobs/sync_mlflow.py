"""Copy to MLflow whatever it lacks of the cells in a store; run twice, nothing doubles.

python -m jobs.sync_mlflow store=store
python -m jobs.sync_mlflow profile=gpu4                                     to the server that the profile names
MLFLOW_TRACKING_URI=https://tracking.example python -m jobs.sync_mlflow

Without a server it goes to SQLite in the store. A name and a password are read from MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.compute import cells
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from dae_ssl.tracking import copying, runs, server
from jobs import experiment, flags, settings


def main(arguments: Sequence[str]) -> None:
    """Copy every cell; exit 1 if the server did not take all of it, 2 if there is nothing to copy."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.sync_mlflow", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_store(parser)
    parser.add_argument("--mlflow-experiment", default=cells.MLFLOW_EXPERIMENT)
    parser.add_argument("--profile", help="whose tracking_uri it is copied to")
    given = flags.parsed(parser, arguments, "store", "profile", "mlflow_experiment")
    store = Store(given.store)
    try:
        named = experiment.profile(given.profile).tracking_uri if given.profile else None
    except ConfigError as error:
        settings.fail(error, 2)
    uri = named or server.tracking_uri(store.root)
    found = store.cells()
    if not found:
        settings.fail(f"{given.store} holds no cells: name the store, as in store=FOLDER", 2)
    print(f"to {server.address(uri)}")
    failed = False
    for folder in found:
        try:
            cell = cells.described(folder)
            if not cells.begun(cell, store):
                continue
            run = runs.cell_run(cell, store, given.mlflow_experiment)
            sent = copying.copy(run, uri)
        except server.AwayError as error:
            settings.fail(error, 1)
        except (ConfigError, StoreError, server.TrackError) as error:
            failed = True
            print(f"{folder.key}: {error}")
        else:
            print(f"{folder.key}: {run.name}: {sent.points_sent} points and {sent.artifacts_sent} files sent")
    if failed:
        settings.fail("some cells are not copied in full: run again", 1)
    with contextlib.suppress(server.TrackError):  # it took every cell, so that only the view may be missing
        print(server.prepare(uri, given.mlflow_experiment))


if __name__ == "__main__":
    main(sys.argv[1:])
