"""What this machine can do and measure."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version

from eesearch.core.registry import ANSWERS, BACKENDS, CRITERIA, DRIVERS, HEADS, STRATEGIES
from eesearch.costs.devices import fingerprint, parse_device
from eesearch.costs.machine import usable_cores

LIBRARIES = ("eesearch", "torch", "numpy", "optuna", "fvcore", "scikit-learn", "numba", "pandas")


def facts() -> dict[str, str]:
    """Name to value, in the order in which a person reads them."""
    found = {name: _version(name) for name in LIBRARIES}
    found |= {"python": platform.python_version(), "system": platform.platform()}
    found["cores"] = f"{len(usable_cores())} usable of {os.cpu_count()}"
    found["pinning"] = "yes" if hasattr(os, "sched_setaffinity") else "no: latencies will be flagged"
    found["free disk"] = f"{shutil.disk_usage('.').free / 1e9:.1f} GB here"
    found |= {f"cpu: {name}": value for name, value in fingerprint(parse_device("cpu:eager:t1:b1")).items()}
    registries = {
        "heads": HEADS,
        "criteria": CRITERIA,
        "answers": ANSWERS,
        "strategies": STRATEGIES,
        "back ends": BACKENDS,
    }
    for name, registry in {**registries, "drivers": DRIVERS}.items():
        found[name] = ", ".join(sorted(registry))
    found["devices"] = "macs, cpu:eager:t1:b1 (tN for N threads), or a profile's JSON file"
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
