"""Energy counters of this machine: joules since some moment, of the processor (RAPL) or of the GPU (NVML).

A counter tells of the whole package, idle power and other programs included: it is read while nothing else runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Meter = Callable[[], float]
"""Joules since some moment; never goes down."""

POWERCAP = Path("/sys/class/powercap")

_PACKAGE = re.compile(r"intel-rapl:\d+")  # AMD processors use this name too; parts of a package have a second number


@dataclass
class _Zone:
    """One package's counter, which starts again from 0 when it reaches its range."""

    energy: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def joules(self) -> float:
        now = int(self.energy.read_text())
        self.total_uj += now - self.last_uj + (self.range_uj if now < self.last_uj else 0)
        self.last_uj = now
        return self.total_uj / 1e6


def rapl_meter(root: Path = POWERCAP) -> Meter | None:
    """The packages of the processor together; None where there are no counters, or they may not be read."""
    zones: list[_Zone] = []
    try:
        for folder in sorted(root.iterdir()):
            name = folder / "name"
            if not _PACKAGE.fullmatch(folder.name) or (name.exists() and "package" not in name.read_text()):
                continue  # "psys" is the whole board: it would count packages twice
            energy, most = folder / "energy_uj", int((folder / "max_energy_range_uj").read_text())
            zones.append(_Zone(energy, most, int(energy.read_text())))
    except (OSError, ValueError):
        return None
    return (lambda: sum(zone.joules() for zone in zones)) if zones else None


def nvml_meter() -> Meter | None:
    """The GPU that torch uses; None without NVML, or on a GPU that does not count."""
    import torch

    try:
        import pynvml  # type: ignore[import-untyped, unused-ignore]

        pynvml.nvmlInit()
        identity = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity.removeprefix('GPU-')}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no library, no driver, an old GPU: each has its own error, and all mean that nobody counts
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


METERS: dict[str, tuple[str, Callable[[], Any]]] = {"cpu": ("rapl", rapl_meter), "cuda": ("nvml", nvml_meter)}
"""Kind of device -> name of its counter, and how it is opened."""


def open_meter(kind: str) -> Meter | None:
    """The counter of a kind of device; None where this machine cannot tell."""
    if kind not in METERS:
        return None
    meter: Meter | None = METERS[kind][1]()
    return meter


def meter_name(kind: str) -> str:
    """Name of the counter of a kind of device; empty where this machine cannot tell."""
    return METERS[kind][0] if open_meter(kind) is not None else ""
