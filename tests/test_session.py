"""A Ray that does not come up is told without a traceback."""

import socket

import pytest

from epilm.errors import EpilmError
from epilm.session import RayConfig, ray_session


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local", "did not start on this machine: The current node timed out"),
        ("auto", "no Ray cluster answers"),
    ],
)
def test_a_ray_that_does_not_start_is_told(monkeypatch, address, message):
    def init(**_):
        raise (Exception if address == "local" else ConnectionError)("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(EpilmError, match=message), ray_session(RayConfig(address=address)):
        pytest.fail("the body ran without Ray")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_told_at_once(monkeypatch, scheme):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(EpilmError, match=r"no Ray cluster answers.*refused"),
            ray_session(RayConfig(address=address)),
        ):
            pytest.fail("the body ran without Ray")
