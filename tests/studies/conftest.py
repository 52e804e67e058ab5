"""One toy for all studies."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy_binding


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_binding.write_toy(tmp_path_factory.mktemp("studies"))
