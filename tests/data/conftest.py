"""What tests of image sets share."""

import pytest

from dae_ssl.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")
