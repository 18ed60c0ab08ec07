"""MLflow before any run is written: the client, the experiment, and the view in which its page opens.

`copying` decides what is written to a run, and when.
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
"""For one request, as in MLflow: when an array ends, all cells write at once, and each request hashes a password."""
VIEW = "dae_ssl"
"""The key of the saved view in which the page at `link` opens."""
COLUMNS = {
    "params": ("method", "method.embedding", "method.alpha", "seed"),
    "metrics": ("test_accuracy",),
}
"""The columns of the view, whose runs are sorted by accuracy: it shows which α is best for each embedding loss."""


class TrackError(RuntimeError):
    """MLflow did not accept a copy; the message is one line without credentials that says how to copy later."""


class AwayError(TrackError):
    """The server cannot be reached or refuses this user, so that it would accept no other copy either."""


def tracking_uri(store_root: Path) -> str:
    """Return MLFLOW_TRACKING_URI if it is set; otherwise the URI of the SQLite file `mlflow.db` in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_root.resolve() / 'mlflow.db'}"


def copied_here(store_root: Path, tell: Callable[[str], None] = print) -> None:
    """Make this process and those it starts copy to `tracking_uri`; without MLflow nothing is copied, as `tell` hears.

    Each process reads from MLFLOW_TRACKING_URI where to copy its cells; if that is empty, they are not copied.
    """
    wanted = os.environ.get("MLFLOW_TRACKING_URI")
    if importlib.util.find_spec("mlflow") is not None:
        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri(store_root))
    elif wanted != "":
        os.environ["MLFLOW_TRACKING_URI"] = ""
        where = f" at {address(wanted)}" if wanted else ""
        tell(f"MLflow is not installed here, so nothing is copied to it{where} now; {_later(wanted or '')}")


def prepare(uri: str, name: str) -> str:
    """Create the database schema, the experiment and its view if they are missing; return the address of its page.

    Call it before many processes write there at the same time. Raises TrackError, one line.
    """
    try:
        with settings(TIMEOUT_SECONDS):
            return link(uri, experiment(client(uri), name, uri))
    except TrackError:
        raise
    except Exception as error:
        raise TrackError(failure(uri, f"cannot open the experiment {name!r}: {error}")) from None


def announce(uri: str, name: str) -> None:
    """Prepare MLflow and print the address of its page, or one line why it cannot; cells are computed in any case."""
    try:
        print(f"MLflow: {prepare(uri, name)}")
    except TrackError as error:
        print(f"nothing is copied to MLflow now: {error}", file=sys.stderr)


def link(uri: str, experiment_id: str) -> str:
    """Return the address of an experiment's page; for a database, the address where `mlflow ui` would show it."""
    server = address(uri) if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


@contextlib.contextmanager
def settings(timeout_seconds: int) -> Iterator[None]:
    """Make MLflow give up soon and print nothing while the block runs, unless the user's environment says otherwise.

    MLflow's client reads these settings only from the environment. Its defaults wait for minutes, and print the
    server's URL, credentials included, whenever a run ends.
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
    """Return a client whose server or database is ready. Raises AwayError if it is not."""
    database = _database(uri)
    try:
        from mlflow import MlflowClient  # a machine that only trains need not have it

        if "MLFLOW_LOGGING_LEVEL" in os.environ:  # MLflow reads it only at its first import, which may be long past
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
        with contextlib.ExitStack() as stack:
            if database is not None:  # MLflow itself lets two processes create the tables at the same time
                stack.enter_context(lock.held(database.with_name(f"{database.name}.lock"), tell=lambda _line: None))
            made = MlflowClient(tracking_uri=uri)
            made.search_experiments(max_results=1)
            return made
    except Exception as error:
        raise AwayError(failure(uri, _why_away(error))) from None


def experiment(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment, creating it if there is none. Raises TrackError if it was deleted."""
    from mlflow.exceptions import MlflowException

    existing = client.get_experiment_by_name(name)
    if existing is None:
        database = _database(uri)
        location = None if database is None else (database.parent / "mlartifacts").as_uri()
        try:
            client.create_experiment(name, artifact_location=location, tags=_tags())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        existing = client.get_experiment_by_name(name)  # another process may have created it meanwhile
    if existing.lifecycle_stage == "deleted":
        raise TrackError(f"experiment {name!r} was deleted in MLflow: restore it (mlflow experiments restore)")
    for tag, value in _tags().items():
        if tag not in existing.tags:
            with contextlib.suppress(MlflowException):  # the experiment may belong to another user
                client.set_experiment_tag(existing.experiment_id, tag, value)
    return str(existing.experiment_id)


def _database(uri: str) -> Path | None:
    prefix, _, path = uri.partition("sqlite:///")
    return Path(path).resolve() if path and not prefix else None


def _tags() -> dict[str, str]:
    """Return the tags that make an experiment's page show training runs, and that define a view of them.

    A view is stored as MLflow's own page stores one saved under "Views", in the tag mlflow.sharedViewState.KEY.
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
    """Return why a server cannot be used and what to do, as the rest of a sentence that starts with its name."""
    said = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        return f"cannot be used: {error.name} is not installed here"
    if "Invalid Host header" in said:
        return "does not answer to this name: start it with --allowed-host NAME"
    if re.search(r"error code 40[13]\b", said):
        named = "MLFLOW_TRACKING_USERNAME" in os.environ
        wrong = "does not accept the name and password" if named else "requires a name and password"
        return f"{wrong}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if reason := re.search(r"\[Errno -?\d+\] ([\w ]+)", said):
        return f"cannot be reached: {reason[1]}"
    if "timed out" in said:
        return "cannot be reached: the connection timed out"
    return f"cannot be used: {said}"


def failure(uri: str, what: str) -> str:
    """Return a failure as one line without credentials; `what` continues the sentence "MLflow at URI ..."."""
    line = f"MLflow at {uri} {' '.join(what.split())}"
    secret = re.match(r"[^:/]+://([^/].*)@", uri)
    if secret:
        line = line.replace(secret[1], "***")
    line = re.sub(r"://[^/\s]*@", "://***@", line)
    line = line if len(line) <= 500 else f"{line[:499]}…"
    return f"{line} (nothing is lost, since the logs hold every point: {_later(uri)})"


def _later(uri: str) -> str:
    before = f"MLFLOW_TRACKING_URI={address(uri)} " if uri.startswith("http") else ""
    return f"`{before}dae-ssl sync` copies them later"


def address(uri: str) -> str:
    """Return a server's address without credentials."""
    return re.sub(r"://.*@", "://", uri.rstrip("/"))
