"""What the tests share: one local Ray, the real data where it lies, and the toy epigenome with its corpus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)  # a busy machine is not a slow function
settings.load_profile("shared")
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Ray's controller looks at its workers every two seconds, which is how long most of these trainings last
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that read it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data at ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One local Ray for the whole session; it never joins another cluster and ends only itself."""
    import ray

    from epilm.session import RayConfig, ray_session

    assert not ray.is_initialized()
    with ray_session(RayConfig(num_cpus=6)):
        yield
