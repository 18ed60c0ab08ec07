"""Questions are answered where torch and numpy cannot be imported: what a command takes, a plan, a state, a key."""

import json
import subprocess
import sys
from pathlib import Path

from dae_ssl import config, experiments
from dae_ssl.store import Store
from jobs.__main__ import VERBS
from tests.forged import forge

STORE = "STORE"
HELP = tuple(VERBS)
QUESTIONS = (
    *((verb, "--help") for verb in HELP),
    ("plan", "study", "--profile=gpu4", STORE),
    ("status", "tour", STORE),
    ("explain", "method=dae", "method.embedding=l2", "method.alpha=1"),
    ("explain", "method=dae", "--and", "method=ae"),
    ("check", "tour", "--profile=gpu4", STORE),
)
"""Words of commands; STORE stands for a store in which one cell is done and one was begun."""
ASKED = """
import contextlib, io, json, sys
for heavy in ("torch", "numpy", "scipy", "sklearn", "h5py", "matplotlib", "mlflow", "hydra", "submitit", "PIL"):
    sys.modules[heavy] = None  # importing it is an ImportError from now on
from jobs.__main__ import main
answers = []
for words in json.loads(sys.argv[1]):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code or 0
    answers.append([code, printed.getvalue()])
print(json.dumps(answers))
"""


def test_no_question_needs_torch_or_numpy(tmp_path: Path) -> None:
    (section,) = experiments.load("tour").sections((0,))
    done, begun, *_ = section.every()
    forge(Store(tmp_path), done, right=0.9, seed=1)
    Store(tmp_path).node("pretrain", config.key(begun, "pretrain")).create()
    asked = [[word if word != STORE else f"--store={tmp_path}" for word in words] for words in QUESTIONS]
    asking = [sys.executable, "-W", "error", "-c", ASKED, json.dumps(asked)]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)}
    ended = subprocess.run(asking, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    answers = dict(zip(QUESTIONS, json.loads(ended.stdout), strict=True))
    unanswered = {words: answer for words, answer in answers.items() if answer[0] != 0 and words[0] != "check"}
    assert unanswered == {}
    assert "pretrain-0" in answers[QUESTIONS[len(HELP)]][1]
    assert "nodes: 4 done" in answers["status", "tour", STORE][1]
    assert config.key(config.cell(method="ae"), "probe") in answers["explain", "method=dae", "--and", "method=ae"][1]
    code, findings = answers["check", "tour", "--profile=gpu4", STORE]
    assert (code, "will not work   SLURM" in findings) == (1, True), "there is none on the PATH"
