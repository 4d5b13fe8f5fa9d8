"""Profiles of a study's devices and systems, kept in the run directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from eesearch.core.costs import DeviceProfile
from eesearch.core.design import HeadSpec
from eesearch.core.errors import CostError
from eesearch.core.progress import Progress
from eesearch.core.systems import SystemProfile
from eesearch.costs.devices import parse_device
from eesearch.costs.latency import Measuring
from eesearch.costs.profile import is_current, load_profile, profile, save_profile
from eesearch.nets.split import Backbone
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.tiers import system_profile
from eesearch.study.workers import others

log = logging.getLogger(__name__)

Network = tuple[Backbone, Mapping[str, tuple[HeadSpec, ...]]]
"""A network, and the heads that fit its cuts."""


def require_devices(study: Study) -> None:
    """Refuse devices that cannot be measured here, and profiles that are not there, before anything is done.

    Raises:
        CostError: so.
    """
    for device in study.devices:
        file = None if device in study.systems else parse_device(device).path
        if file is not None and not file.is_file():
            do = "Check its path; `eesearch profile --device` and kits make profiles."
            raise CostError(f"there is no profile {file}", got=device, do=do)


def any_profile(
    study: Study,
    run: RunDir,
    name: str,
    network: Network,
    progress: Progress,
    *,
    member: str = "",
) -> DeviceProfile | SystemProfile:
    """The profile of a device, or of one of the study's systems; both are kept in the run directory.

    Args:
        study: Names heads, decisions and systems, and how to measure; of one network alone.
        run: Keeps it.
        name: Of the device or system.
        network: The network and the heads that fit its cuts.
        progress: Told what is measured.
        member: Name of the network among several, under which the profile is kept.

    Raises:
        CostError: as for `device_profile`.
        StudyError: a system does not suit the network.
    """
    at = f"@{member}" if member else ""

    def measured(device: str) -> DeviceProfile:
        return device_profile(study, run, device, network, progress, kept_as=f"{device}{at}")

    if name not in study.systems:
        return measured(name)
    kept = network if study.backbone.exits else (network[0].keep([]), {})
    found = system_profile(name, study.systems[name], kept, measured)
    save_profile(found, run.profile_file(f"{name}{at}"))
    return found


def device_profile(
    study: Study,
    run: RunDir,
    device: str,
    network: Network,
    progress: Progress,
    *,
    kept_as: str = "",
) -> DeviceProfile:
    """The device's profile: the one in the run directory if it matches, else a new measurement.

    Args:
        study: Names heads and decisions, and how to measure.
        run: Keeps it.
        device: On which is measured.
        network: The network and the heads that fit its cuts.
        progress: Told what is measured.
        kept_as: Its name in the run directory, if that is not the device's.

    Raises:
        CostError: an operation is not counted, or the device cannot be measured here.
    """
    backbone, heads = network
    file, decisions, protocol = run.profile_file(kept_as or device), study.decisions, study.measuring
    known = _known_profile(file)
    if (
        known is not None
        and known.device == device
        and parse_device(device).path is None
        and is_current(known, backbone, heads, decisions=decisions, protocol=None if others(run.path) else protocol)
    ):
        return known  # who joins a search takes its profile, though this may be another machine
    if device != "macs":
        log.info("measuring %s", device)
    measuring = Measuring(protocol=protocol, progress=progress)
    measured = profile(backbone, heads, device, decisions=decisions, measuring=measuring)
    save_profile(measured, file)
    return measured


def _known_profile(file: Path) -> DeviceProfile | None:
    if not file.exists():
        return None
    try:
        return load_profile(file)
    except CostError as error:
        log.warning("%s It is measured again.", error)
        return None
