"""Copy to MLflow whatever it lacks of the cells in a store; run twice, nothing doubles.

python -m jobs.sync_mlflow --store store
MLFLOW_TRACKING_URI=https://tracking.example python -m jobs.sync_mlflow
"""

import argparse
import contextlib
import os
from pathlib import Path

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.batch import cells, server, track
from dae_ssl.config import ConfigError
from dae_ssl.store import Store, StoreError
from jobs import settings


def main() -> None:
    """Copy every cell; exit 1 if the server did not take all of it, 2 if there is nothing to copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("DAE_SSL_STORE", "store"))
    parser.add_argument("--store", type=Path, default=default, help="default: $DAE_SSL_STORE, else ./store")
    parser.add_argument("--mlflow-experiment", default=cells.MLFLOW_EXPERIMENT)
    given = parser.parse_args()
    store = Store(given.store)
    found = store.cells()
    if not found:
        settings.fail(f"{given.store} holds no cells: name the store with --store", 2)
    failed, uri = False, server.tracking_uri(store.root)
    for folder in found:
        try:
            run = cells.cell_run(cells.described(folder), store, given.mlflow_experiment)
            sent = track.copy(run, uri)
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
    main()
