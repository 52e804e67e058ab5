"""A Ray that does not come up is told without a traceback."""

import pytest

from epilm.errors import EpilmError
from epilm.session import RayConfig, ray_session


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local", "did not start on this machine: The current node timed out"),
        ("10.0.0.1:6379", "no Ray cluster answers"),
    ],
)
def test_a_ray_that_does_not_start_is_told(monkeypatch, address, message):
    def init(**_):
        raise (Exception if address == "local" else ConnectionError)("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(EpilmError, match=message), ray_session(RayConfig(address=address)):
        pytest.fail("the body ran without Ray")
