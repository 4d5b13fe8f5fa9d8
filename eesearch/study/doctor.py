"""What this machine can do and measure."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version

from eesearch.core.errors import InputError
from eesearch.core.registry import ANSWERS, CRITERIA, DRIVERS, HEADS, STRATEGIES
from eesearch.core.timings import CONTENDED
from eesearch.costs.backends import backend_names
from eesearch.costs.devices import KINDS, fingerprint, parse_device
from eesearch.costs.machine import usable_cores
from eesearch.costs.meters import meter_name
from eesearch.costs.noise import Noise

LIBRARIES = ("eesearch", "torch", "numpy", "optuna", "fvcore", "scikit-learn", "numba", "pandas")


def facts() -> dict[str, str]:
    """Name to value, in the order in which a person reads them."""
    found = {name: _version(name) for name in LIBRARIES}
    found |= {"python": platform.python_version(), "system": platform.platform()}
    found["cores"] = f"{len(usable_cores())} usable of {os.cpu_count()}"
    found["pinning"] = "yes" if hasattr(os, "sched_setaffinity") else "no: latencies will be flagged"
    found["free disk"] = f"{shutil.disk_usage('.').free / 1e9:.1f} GB here"
    found |= {f"cpu: {name}": value for name, value in fingerprint(parse_device("cpu:eager:t1:b1")).items()}
    registries = {"heads": HEADS, "criteria": CRITERIA, "answers": ANSWERS, "strategies": STRATEGIES}
    for name, registry in {**registries, "drivers": DRIVERS}.items():
        found[name] = ", ".join(sorted(registry))
    found["energy"] = ", ".join(filter(None, map(meter_name, KINDS))) or "no counter that can be read"
    found |= {f"back ends: {kind}": _back_ends(kind) for kind in KINDS}
    found["devices"] = "macs; KIND:BACKEND:tTHREADS:bBATCH, such as cpu:eager:t1:b1; or a profile's JSON file"
    return found


def _back_ends(kind: str) -> str:
    """Which run here, and why the others do not."""
    said = []
    for name in backend_names(kind):
        try:
            parse_device(f"{kind}:{name}:t1:b1")
        except InputError as error:
            said.append(f"{name}: no: {error}")
        else:
            said.append(f"{name}: yes")
    return "\n".join(said)


def noise_facts(noise: Noise) -> dict[str, str]:
    """What the timer's own noise is, in words."""
    return {
        "device": noise.device,
        "reference": f"{noise.ms:.4f} ms per call",
        "same figure again": f"differs by {noise.figures:.2%}",
        "between processes": f"{noise.processes:.2%}",
        "within a process": f"{noise.rounds:.2%} (middle 80 % of the rounds)",
        "contention": f"{noise.contention:.3f} (wall over processor time; above {CONTENDED} others run)",
        "floor": f"{noise.floor:.1%}, always expected",
        "verdict": noise.verdict,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
