"""One toy for all studies."""

from __future__ import annotations

from pathlib import Path

import pytest
import study_toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_toy.write_toy(tmp_path_factory.mktemp("studies"))
