"""One toy corpus for all tests of the baselines."""

from __future__ import annotations

import pytest
from baseline_toy import BaselineToy, write_toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> BaselineToy:
    return write_toy(tmp_path_factory.mktemp("baselines"))
