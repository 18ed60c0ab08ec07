"""What was written otherwise before is answered with one line, the present way to write it, and does nothing."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dae_ssl.config import ConfigError
from jobs import former
from jobs.__main__ import VERBS
from tests.commanded import given, run
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
MODULES = [
    ("prepare_data digits --store S", "data digits --store S"),
    ("prepare_data cifar10 --from /data store=S", "data cifar10 --from /data --store S"),
    ("run_cell method=dae +scale=demo store=S floors=false", "run method=dae --scale demo --store S --no-floors"),
    ("run_cell method=ae +variant=published_code device=cpu mlflow_experiment=null",
     "run method=ae --variant published_code --device cpu --no-mlflow"),
    ("run_cell --multirun method=dae seed=1,2", "run --multirun method=dae seed=1,2"),
    ("run_nodes KEY --store S", "compute KEY --store S"),
    ("sync_mlflow profile=gpu4 store=S mlflow_experiment=mine",
     "sync --profile gpu4 --store S --mlflow-experiment mine"),
    ("mlflow_server --folder F --port 5001", "server F --port 5001"),
    ("mlflow_server --port 5001 --folder=F", "server F --port 5001"),
    ("submit experiment=study profile=gpu4", "submit study --profile gpu4"),
    ("submit profile=local experiment=study minutes=25 archive=a.jsonl weights=true lanes=2",
     "submit study --profile local --minutes 25 --archive a.jsonl --weights --parallel 2"),
    ("submit experiment=tour only=[pretrain,features] seeds=[0,1] scale=small optimisation.epochs=2",
     "submit tour --only pretrain,features --seeds 0,1 --scale small optimisation.epochs=2"),
    ("submit experiment=tour only=pretrain weights=W", "submit tour --only pretrain --weights W"),
    ("plan experiment=methods profile=gpu4 trial=true", "plan methods --profile gpu4 --trial"),
    ("status experiment=methods --watch", "status methods --watch"),
    ("report experiment=study scale=small", "report study --scale small"),
    ("report method=dae store=S", "report method=dae --store S"),
    ("check experiment=tour profile=dev", "check tour --profile dev"),
    ("cancel experiment=tour", "cancel tour"),
    ("logs 3f0c pretrain lines=30 store=S", "logs 3f0c pretrain --lines 30 --store S"),
    ("explain method=dae store=S --describe", "explain method=dae --store S"),
    ("results save experiment=study scale=small to=r.jsonl", "results save study r.jsonl --scale small"),
    ("results load r.jsonl weights=false store=S", "results load r.jsonl --no-weights --store S"),
    ("versions --lock L", "versions --lock L"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now"), MODULES)
def test_former_module_answers_with_the_present_command(
    before: str, now: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, *arguments = shlex.split(before)
    with pytest.raises(SystemExit) as end:
        former.refuse(["python", "-X", "dev", "-m", f"jobs.{module}", *arguments], ["-m", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: this command has changed: write `dae-ssl {now}`\n"


@pytest.mark.parametrize(("before", "now"), MODULES)
def test_what_is_answered_is_understood_and_is_the_present_way(before: str, now: str) -> None:
    verb, *arguments = shlex.split(now)
    assert former.spelling(verb, arguments) is None
    assert given(verb, arguments).act is not None
    name, *former_arguments = shlex.split(before)
    if (name, former_arguments) != (verb, arguments):
        with pytest.raises(ConfigError) as refused:
            run(name, former_arguments)
        assert str(refused.value) == f"this command has changed: write `dae-ssl {now}`"


def test_every_command_that_was_a_module_is_known_by_its_former_name() -> None:
    assert {shlex.split(before)[0] for before, _ in MODULES} == {*former.VERBS, *former.KEPT}
    assert {*former.VERBS.values(), *former.KEPT} <= VERBS.keys()


def test_words_that_shells_divide_are_answered_in_quotes() -> None:
    assert former.spelling("run_cell", ["method=dae", "store=my store", "optimisation.checkpoints=[1]"]) == (
        "dae-ssl run method=dae --store 'my store' 'optimisation.checkpoints=[1]'"
    )


def started(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_python_is_answered_before_it_looks_for_the_module() -> None:
    for options in (["-m", "jobs.run_cell"], ["-u", "-W", "error", "-m", "jobs.run_cell"], ["-mjobs.run_cell"]):
        done = started(*options, "method=dae", "+scale=demo")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: this command has changed: write `dae-ssl run method=dae --scale demo`\n"


def test_ranks_are_answered_once_and_with_what_torchrun_is_told() -> None:
    first = started("-m", "jobs.run_cell", "method=dae", RANK="0")
    assert first.stderr == "error: this command has changed: write `torchrun ... -m jobs run method=dae`\n"
    assert (started("-m", "jobs.run_cell", RANK="1").stderr, first.returncode) == ("", 2)


def test_nothing_else_is_answered_so() -> None:
    assert started("-m", "jobs", "explain", "method=ae").returncode == 0
    assert started("-c", "import jobs.plan, jobs.former").returncode == 0
    assert started("-m", "jobs.scales").returncode == 0, "a module that never was a command"
    assert "No module named jobs.nothing" in started("-m", "jobs.nothing").stderr


def test_folder_was_an_option_of_the_server_alone() -> None:
    assert former.spelling("data", ["mine", "--folder", "F"]) is None
    assert former.spelling("server", ["--folder", "F"]) == "dae-ssl server F"
