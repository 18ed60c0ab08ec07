"""The command that prepares image sets."""

import urllib.error

import pytest
import torchvision

from dae_ssl.store import Store
from jobs.__main__ import main
from tests.data.trees import small_tree


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_prepares_several_names_at_once_into_the_store_of_the_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DAE_SSL_STORE", str(tmp_path / "chosen"))
    small_tree(tmp_path / "sets" / "one")
    small_tree(tmp_path / "sets" / "two", seed=5)
    code, said, wrong = run(capsys, "one", "two", "digits", "--from", tmp_path / "sets")
    assert (code, wrong) == (0, "")
    assert "prepared 40 train and 20 test images of 10 classes" in said
    assert Store(tmp_path / "chosen").data_names() == ["digits", "one", "two"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cifar10"], "cifar10: say where the images come from, --from PATH or --download"),
        (["mine", "--download"], "mine cannot be downloaded"),
        (["mine", "--from", "nowhere/at/all"], "does not exist"),
        (["../mine", "--from", "."], "choose a data set's name"),
        (["mine", "--download", "--size", "32"], "--size=32 is for the images of a folder: add --from FOLDER"),
        (["photgraphs"], "photgraphs: did you mean photographs? say where the images come from"),
        (["digits", "--from", "nowhere"], "digits comes with scikit-learn: leave out --download, --from and --size"),
        (["photographs", "--download"], "photographs comes with scikit-image: leave out --download, --from and --size"),
        (["digits", "--size", "32"], "digits comes with scikit-learn: leave out --download, --from and --size"),
        ([], "NAME='': choose cifar10"),
    ],
)
def test_bad_command_ends_with_code_2_and_one_line(tmp_path, capsys, arguments, said):
    code, _, wrong = run(capsys, *arguments, "--store", tmp_path / "store")
    assert code == 2
    assert said in wrong.splitlines()[-1]
    assert "Traceback" not in wrong
    assert not (tmp_path / "store").exists()


def test_download_without_a_network_says_how_to_do_without(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", fail)
    code, _, wrong = run(capsys, "cifar100", "--download", "--store", tmp_path / "store")
    assert (code, len(wrong.splitlines())) == (2, 1)
    assert "Name or service not known" in wrong
    assert "dae-ssl data cifar100 --from cifar-100-python.tar.gz" in wrong
