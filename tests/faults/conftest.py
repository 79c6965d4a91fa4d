"""The project as it is when the tests begin: it may be edited during the minutes that they take."""

from pathlib import Path

import pytest

from tests.test_pipeline import Copy


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every copy is cloned from."""
    return Copy(tmp_path_factory.mktemp("source")).folder
