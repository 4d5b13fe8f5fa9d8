"""Energy counters, from made-up files."""

import sys
import types

import pytest
import torch

from eesearch.costs import devices, meters
from eesearch.costs.devices import fingerprint, parse_device
from eesearch.costs.meters import nvml_meter, open_meter, rapl_meter


def zone(root, folder, name, energy, most=10_000_000):
    (root / folder).mkdir()
    for file, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (root / folder / file).write_text(f"{value}\n")


@pytest.fixture
def tree(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 1_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 3_000_000)
    (tmp_path / "dtpm").mkdir()
    return tmp_path


def test_packages_add_up_and_parts_do_not_count(tree):
    meter = rapl_meter(tree)
    assert meter() == 0.0
    (tree / "intel-rapl:0" / "energy_uj").write_text("9500000")
    (tree / "intel-rapl:0:0" / "energy_uj").write_text("6000000")
    (tree / "intel-rapl:1" / "energy_uj").write_text("1250000")
    (tree / "intel-rapl:2" / "energy_uj").write_text("9000000")
    assert meter() == pytest.approx(0.75)


def test_a_counter_that_starts_again_goes_on(tree):
    meter = rapl_meter(tree)
    for now, joules in ((9_800_000, 0.8), (300_000, 1.3), (200_000, 11.2)):
        (tree / "intel-rapl:0" / "energy_uj").write_text(str(now))
        assert meter() == pytest.approx(joules)


@pytest.mark.parametrize("damage", ["missing", "unreadable", "empty", "garbled"])
def test_what_cannot_be_read_is_absent(tree, monkeypatch, damage):
    if damage == "missing":
        assert rapl_meter(tree / "none") is None
    elif damage == "empty":
        assert rapl_meter(tree / "dtpm") is None
    elif damage == "garbled":
        (tree / "intel-rapl:0" / "energy_uj").write_text("?")
        assert rapl_meter(tree) is None
    else:
        reads = type(tree).read_text

        def read(path, *args):
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return reads(path, *args)

        monkeypatch.setattr(type(tree), "read_text", read)
        assert rapl_meter(tree) is None


def test_the_gpu_tells_through_nvml(monkeypatch):
    asked = []
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1500,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid="1-2"))
    assert nvml_meter()() == 1.5
    assert asked == ["GPU-1-2"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_meter() is None


def test_the_counter_is_part_of_the_fingerprint(monkeypatch):
    cpu = parse_device("cpu:eager:t1:b1")
    monkeypatch.setitem(meters.METERS, "cpu", ("rapl", lambda: lambda: 0.0))
    assert fingerprint(cpu)["energy"] == "rapl"
    assert open_meter("cpu")() == 0.0
    monkeypatch.setitem(meters.METERS, "cpu", ("rapl", lambda: None))
    assert "energy" not in devices.fingerprint(cpu)
    assert open_meter("tpu") is None
