"""A report that tests only read."""

from pathlib import Path

import pytest

from gpt2v.report import write_report
from invented_run import make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read."""
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="session")
def page(made: Path) -> str:
    """The page of its report."""
    return write_report(made).read_text()
