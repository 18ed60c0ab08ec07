"""MLflow before any run is written: the client, the experiment, and how its page opens.

What is written to a run, and when, is decided in `copying`.
"""

import contextlib
import importlib.util
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dae_ssl import lock

TIMEOUT_SECONDS = 120
"""For one request, as MLflow's own: when an array ends, every cell writes, and each request costs a password's hash."""
VIEW = "dae_ssl"
"""Key of the saved view in which an experiment's page opens from `link`."""
COLUMNS = {
    "params": ("method", "method.embedding", "method.alpha", "seed"),
    "metrics": ("test_accuracy",),
}
"""What the view shows beside a run's name, best first: which α is best for each embedding loss, at a glance."""


class TrackError(RuntimeError):
    """MLflow did not take a copy; the message is one line without credentials that says how to make it later."""


class AwayError(TrackError):
    """The server is not reached, or does not let this user in: it will not take any other copy either."""


def tracking_uri(store_root: Path) -> str:
    """Return MLFLOW_TRACKING_URI if it is set, else the SQLite file `mlflow.db` in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_root.resolve() / 'mlflow.db'}"


def copied_here(store_root: Path, tell: Callable[[str], None] = print) -> None:
    """Have this process and those it starts copy to `tracking_uri`; without MLflow nowhere, which is told once.

    It is MLFLOW_TRACKING_URI that tells every node where its cell is copied to; an empty one says that it is not.
    """
    wanted = os.environ.get("MLFLOW_TRACKING_URI")
    if importlib.util.find_spec("mlflow") is not None:
        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri(store_root))
    elif wanted != "":
        os.environ["MLFLOW_TRACKING_URI"] = ""
        where = f" at {address(wanted)}" if wanted else ""
        tell(f"MLflow is not installed here, so nothing is copied to it{where} now: {_later(wanted or '')}")


def prepare(uri: str, name: str) -> str:
    """Create the schema, the experiment and its view where they are missing; return the address of its page.

    To be called before many processes write to them at the same time. Raises TrackError, one line.
    """
    try:
        with settings(TIMEOUT_SECONDS):
            return link(uri, experiment(client(uri), name, uri))
    except TrackError:
        raise
    except Exception as error:
        raise TrackError(failure(uri, f"has no experiment {name!r}: {error}")) from None


def announce(uri: str, name: str) -> None:
    """Prepare MLflow and print where it shows the cells, or in one line why not; they are computed all the same."""
    try:
        print(f"MLflow: {prepare(uri, name)}")
    except TrackError as error:
        print(f"not tracked as things are: {error}", file=sys.stderr)


def link(uri: str, experiment_id: str) -> str:
    """Return the address of an experiment's page; of a database it is where `mlflow ui` would show it."""
    server = address(uri) if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


@contextlib.contextmanager
def settings(timeout_seconds: int) -> Iterator[None]:
    """Make MLflow quick to give up, silent and discreet, wherever the user's environment does not say otherwise.

    MLflow's client takes these from the environment alone. Its own defaults wait for minutes, and print the server's
    URL, credentials included, whenever a run ends.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    }
    added = wanted.keys() - os.environ.keys()
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def client(uri: str) -> Any:
    """Return a client whose store is ready to use. Raises AwayError if it cannot be."""
    database = _database(uri)
    try:
        from mlflow import MlflowClient  # which a machine that only trains need not have

        if "MLFLOW_LOGGING_LEVEL" in os.environ:  # read by MLflow at its first import only, which may be long past
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
        with contextlib.ExitStack() as stack:
            if database is not None:  # MLflow does not keep two processes from creating the tables at the same time
                stack.enter_context(lock.held(database.with_name(f"{database.name}.lock"), tell=lambda _line: None))
            made = MlflowClient(tracking_uri=uri)
            made.search_experiments(max_results=1)
            return made
    except Exception as error:
        raise AwayError(failure(uri, _why_away(error))) from None


def experiment(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment, creating it if there is none. Raises TrackError if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        database = _database(uri)
        location = None if database is None else (database.parent / "mlartifacts").as_uri()
        try:
            client.create_experiment(name, artifact_location=location, tags=_tags())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)  # which another process may have created meanwhile
    if found.lifecycle_stage == "deleted":
        raise TrackError(f"experiment {name!r} was deleted there: restore it (mlflow experiments restore)")
    for tag, value in _tags().items():
        if tag not in found.tags:
            with contextlib.suppress(MlflowException):  # of somebody else, whose page it is
                client.set_experiment_tag(found.experiment_id, tag, value)
    return str(found.experiment_id)


def _database(uri: str) -> Path | None:
    prefix, _, path = uri.partition("sqlite:///")
    return Path(path).resolve() if path and not prefix else None


def _tags() -> dict[str, str]:
    """Return what makes an experiment's page show training runs, and offer a view of them that needs no set-up.

    A view is what MLflow's own page saves under "Views" (mlflow.sharedViewState.KEY).
    """
    columns = [f"{kind}.`{name}`" for kind, names in COLUMNS.items() for name in names]
    state = {
        "orderByKey": "metrics.`test_accuracy`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "hideEmptyCharts": True,
    }
    view = {"name": "Accuracy by method", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {"mlflow.experimentKind": "custom_model_development", f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}


def _why_away(error: Exception) -> str:
    """Return what keeps a server from being used, in words that tell what to do."""
    said = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        return f"cannot be used: {error.name} is not installed here"
    if "Invalid Host header" in said:
        return "does not answer to this name: start it with --allowed-host NAME"
    if re.search(r"error code 40[13]\b", said):
        named = "MLFLOW_TRACKING_USERNAME" in os.environ
        wrong = "does not accept the name and password" if named else "wants a name and password"
        return f"{wrong}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if reason := re.search(r"\[Errno -?\d+\] ([\w ]+)", said):
        return f"is not reached: {reason[1]}"
    if "timed out" in said:
        return "is not reached: it timed out"
    return f"cannot be used: {said}"


def failure(uri: str, what: str) -> str:
    """Return a failure as one line without credentials."""
    line = f"MLflow at {uri} {' '.join(what.split())}"
    secret = re.match(r"[^:/]+://([^/].*)@", uri)
    if secret:
        line = line.replace(secret[1], "***")
    line = re.sub(r"://[^/\s]*@", "://***@", line)
    line = line if len(line) <= 500 else f"{line[:499]}…"
    return f"{line} (nothing is lost, the logs hold every point: {_later(uri)})"


def _later(uri: str) -> str:
    before = f"MLFLOW_TRACKING_URI={address(uri)} " if uri.startswith("http") else ""
    return f"`{before}dae-ssl sync` copies them later"


def address(uri: str) -> str:
    """Return a server's address without credentials."""
    return re.sub(r"://.*@", "://", uri.rstrip("/"))
