from pathlib import Path

import pytest

from eesearch.core.errors import CostError
from eesearch.costs import devices
from eesearch.costs.devices import Device, fingerprint, parse_device


def test_names():
    assert parse_device("macs") == Device("macs", "macs")
    assert parse_device("cpu:eager:t1:b1") == Device("cpu:eager:t1:b1", "cpu", "eager", 1, 1)
    assert parse_device("boards/pi.json").path == Path("boards/pi.json")
    assert [parse_device(n).timed for n in ("macs", "x.json", "cpu:eager:t1:b1")] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cpu", "KIND:BACKEND:tTHREADS:bBATCH"),
        ("cpu:eager:1:1", "KIND:BACKEND:tTHREADS:bBATCH"),
        ("tpu:eager:t1:b1", "kind tpu; expected cpu"),
        ("cpu:warp:t1:b1", "back end warp; expected one of .*eager"),
        ("cpu:eager:t0:b1", "0 threads; expected 1 to"),
        ("cpu:eager:t9999:b1", "9999 threads; expected 1 to"),
        ("cpu:eager:t1:b8", "batch size 8; expected b1"),
    ],
)
def test_other_names_say_what_is_available(name, message):
    with pytest.raises(CostError, match=message):
        parse_device(name)


def test_fingerprint_tells_what_a_figure_depends_on(monkeypatch):
    here = fingerprint(parse_device("cpu:eager:t1:b1"))
    assert set(here) == {"processor", "cores", "threads", "os", "python", "torch", "allocator", "pinned"}
    assert all(here.values())
    monkeypatch.setattr(devices.platform, "libc_ver", lambda: ("", ""))
    assert fingerprint(parse_device("cpu:eager:t1:b1")) == {**here, "allocator": "default"}
    assert fingerprint(Device("macs", "macs")) == {}
