"""Device names, and the fingerprint of the machine under which a figure was measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from eesearch.core.errors import CostError
from eesearch.costs.backends import Backend, find_backend
from eesearch.costs.cuda import gpu_facts, require_cuda
from eesearch.costs.machine import machine_facts, sizes_up_to, usable_cores
from eesearch.costs.meters import meter_name

MACS = "macs"
"""The device that counts multiply-adds and times nothing."""

FORMAT = "KIND:BACKEND:tTHREADS:bBATCH, such as cpu:eager:t1:b1; or macs; or the path of a profile (.json)"
KINDS = ("cpu", "cuda")
"""Kinds of device on which latency is measured here; the GPU is the one that torch uses."""

_NAME = re.compile(r"(?P<kind>\w+):(?P<backend>[\w.-]+):t(?P<threads>\d+):b(?P<batch>\d+)")


@dataclass(frozen=True)
class Device:
    """Where a network's cost is taken.

    Attributes:
        name: As the study writes it.
        kind: `macs`, `cpu`, `cuda`, or `file` for a profile that was measured elsewhere.
        backend: A name in the BACKENDS registry; empty on `macs` and `file`.
        threads: Threads of one call; 0 on `macs` and `file`.
        batch: Samples per call; 0 on `macs` and `file`.
        path: The profile of a `file`.
    """

    name: str
    kind: str
    backend: str = ""
    threads: int = 0
    batch: int = 0
    path: Path | None = None

    @property
    def runs(self) -> Backend:
        """What runs modules on a timed device.

        Raises:
            CostError: it is not here.
        """
        return find_backend(self.kind, self.backend)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of samples for which calls are timed: as samples leave, calls get smaller. The last is `batch`."""
        return sizes_up_to(self.batch)

    @property
    def timed(self) -> bool:
        """Whether latency is measured on this device here."""
        return self.kind not in (MACS, "file")


def is_device_name(name: str) -> bool:
    """Whether a name has the form of a device, available here or not."""
    return name == MACS or name.endswith(".json") or _NAME.fullmatch(name) is not None


def parse_device(name: str) -> Device:
    """Read a device's name.

    Args:
        name: `macs`, `cpu:eager:t1:b1`, or the path of a profile (.json).

    Raises:
        CostError: the name has another form, there is no such device, or what runs modules there is not installed.
    """
    if name == MACS:
        return Device(name, MACS)
    if name.endswith(".json"):
        return Device(name, "file", path=Path(name))
    found = _NAME.fullmatch(name)
    if found is None:
        raise CostError(f"'{name}' is not a device", expected=FORMAT)
    device = Device(name, found["kind"], found["backend"], int(found["threads"]), int(found["batch"]))
    _require(device)
    return device


def _require(device: Device) -> None:
    what = f"the device '{device.name}' is not available"
    if device.kind not in KINDS:
        raise CostError(what, got=f"kind {device.kind}", expected=" or ".join(KINDS))
    backend = find_backend(device.kind, device.backend)
    if device.kind == "cuda":
        require_cuda(device.name)
    if not 1 <= device.threads <= len(usable_cores()):
        raise CostError(what, got=f"{device.threads} threads", expected=f"1 to {len(usable_cores())} on this machine")
    if device.batch < 1 or (backend.largest and device.batch > backend.largest):
        largest = f"b1 to b{backend.largest}" if backend.largest > 1 else "b1: one sample at a time"
        expected = largest if backend.largest else "b1 or more"
        raise CostError(what, got=f"batch size {device.batch}", expected=expected)


def fingerprint(device: Device) -> dict[str, str]:
    """What a measured figure depends on besides the network: processor, GPU, versions, settings.

    Multiply-adds do not depend on the machine: the fingerprint of `macs` is empty.
    """
    if not device.timed:
        return {}
    return {
        **machine_facts(device.threads),
        "torch": torch.__version__,
        **({"sizes": " ".join(map(str, device.sizes))} if device.batch > 1 else {}),
        **({"energy": meter} if (meter := meter_name(device.kind)) else {}),
        **device.runs.versions,
        **(gpu_facts() if device.kind == "cuda" else {}),
    }
