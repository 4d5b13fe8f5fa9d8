"""What one backbone and all heads of a search space cost on one device; measured once, before the first trial."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import DeviceProfile
from eesearch.core.design import content_key
from eesearch.core.errors import CostError
from eesearch.core.store import write_atomic
from eesearch.core.systems import SystemProfile
from eesearch.costs import macs
from eesearch.costs.counting import count_parts
from eesearch.costs.devices import Device, fingerprint, parse_device
from eesearch.costs.figures import METHOD, Called, Heads, measure_calls
from eesearch.costs.latency import Measuring
from eesearch.costs.timer import Protocol
from eesearch.nets.split import Backbone

log = logging.getLogger(__name__)

LARGEST_PROFILE = 2**26
"""Bytes of a profile's file."""

AnyProfile = DeviceProfile | SystemProfile | CascadeProfile
"""Of one network on a device or on a system of several, or of several networks."""

_MEASURE_THERE = "Measure it there with this study: `eesearch profile STUDY --out FILE`."


def _kind(found: Any) -> str:
    """What a profile is of, by the field that its kind alone has."""
    fields = found if isinstance(found, dict) else ()
    return "cascade" if "members" in fields else "system" if "tiers" in fields else "device"


_FILE: TypeAdapter[AnyProfile] = TypeAdapter(
    Annotated[
        Annotated[DeviceProfile, Tag("device")]
        | Annotated[SystemProfile, Tag("system")]
        | Annotated[CascadeProfile, Tag("cascade")],
        Discriminator(_kind),
    ]
)


def profile(
    backbone: Backbone, heads: Heads, device: str, *, decisions: Sequence[str], measuring: Measuring | None = None
) -> DeviceProfile:
    """Count multiply-adds and, on a timed device, measure latency of every prefix and of every head in place.

    Args:
        backbone: All cuts of the search space.
        heads: All heads of the search space.
        device: `macs`, `cpu:eager:t1:b1`, or the path of a profile (.json), which is read and checked; of several
            networks, that of them all.
        decisions: Names of the decisions that may be taken, see `decision_name`.
        measuring: How to measure; the full protocol by default.

    Raises:
        CostError: the device does not exist, an operation is not counted, a measurement failed, or the profile that
            `device` names does not cover what is needed.
        HeadError: a head does not fit its cut.
        ModelError: the device's back end cannot take the network.
    """
    measuring = measuring or Measuring()
    where = parse_device(device)
    counted = count_parts(backbone, heads)
    if where.path is not None:
        found = load_profile(where.path, backbone.name).model_copy(update={"device": device})
        _require_same_network(found, backbone, counted.macs_prefix)
        _require_covers(found, counted.macs_head, decisions)
        return found
    *smaller, timed = measure_calls(backbone, heads, where, decisions, measuring) if where.timed else [Called(None)]
    found = DeviceProfile(
        device=device,
        fingerprint=profile_fingerprint(where, measuring.protocol),
        content=profile_content(backbone, heads, decisions),
        cuts=tuple(cut.name for cut in backbone.cuts),
        latency=timed.latency,
        smaller=tuple(each.latency for each in smaller if each.latency),
        energy=timed.energy,
        **vars(counted),
    )
    for caution in found.cautions:
        log.warning("%s: %s", device, caution)
    return found


def profile_content(backbone: Backbone, heads: Heads, decisions: Sequence[str]) -> str:
    """Key of what is profiled: code, cuts, heads and decisions; weights do not count."""
    cuts = [(cut.name, cut.shape) for cut in backbone.cuts]
    designs = {cut: sorted(spec.model_dump_json() for spec in specs) for cut, specs in heads.items() if specs}
    return content_key(backbone.origin.structure, list(backbone.example.shape), cuts, designs, sorted(decisions))


def profile_fingerprint(device: Device, protocol: Protocol) -> dict[str, str]:
    """Under what a profile's figures were taken: rules of counting, and on a timed device machine and protocol."""
    timed = {"protocol": protocol.name, "method": METHOD} if device.timed else {}
    return {"macs": macs.RULES_VERSION, **fingerprint(device), **timed}


def is_current(
    found: DeviceProfile, backbone: Backbone, heads: Heads, *, decisions: Sequence[str], protocol: Protocol | None
) -> bool:
    """Whether measuring `found.device` again would measure the same thing, and under the same circumstances.

    Args:
        found: The profile.
        backbone: The network.
        heads: Of each cut.
        decisions: Of the search space.
        protocol: Of the timer; None: the circumstances do not matter, another machine's profile will do.
    """
    if found.content != profile_content(backbone, heads, decisions):
        return False
    return protocol is None or found.fingerprint == profile_fingerprint(parse_device(found.device), protocol)


def save_profile(found: AnyProfile, path: Path) -> None:
    """Write a profile as JSON, atomically.

    Raises:
        RunError: the disk is full, or the directory cannot be written.
    """
    write_atomic(path, found.model_dump_json(indent=2))


def load_profile(path: Path, network: str = "") -> DeviceProfile:
    """Read the profile of one network on one device; see `load_any_profile`.

    Args:
        path: Its file.
        network: Its name, where the file is of several.

    Raises:
        CostError: as `load_any_profile`; or the file is of a system, of several networks, or lacks the network.
    """
    found = load_any_profile(path)
    if network and isinstance(found, DeviceProfile):
        expected = f"that of several, with '{network}' among them"
        raise CostError(f"the profile {path} is of one network", expected=expected, do=_MEASURE_THERE)
    if isinstance(found, CascadeProfile):
        names = ", ".join(found.members)
        if not network:
            raise CostError(f"the profile {path} is of several networks", got=names, expected="that of one network")
        if network not in found.members:
            raise CostError(f"the profile {path} lacks network '{network}'", got=names, do=_MEASURE_THERE)
        found = found.members[network]
    if isinstance(found, SystemProfile):
        raise CostError(f"the profile {path} is of a system of several devices", expected="that of one device")
    return found


def load_any_profile(path: Path) -> AnyProfile:
    """Read a profile, whoever wrote it: figures, of which none is run, and none is a path.

    Raises:
        CostError: there is no such file, or it is too large, truncated, malformed or no profile; whoever measured it
            may measure it again.
    """
    try:
        return _FILE.validate_json(profile_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:]))  # behind the kind
        raise CostError(
            f"the profile {path} is damaged",
            got=f"{place}: {first['msg']}" if place else first["msg"],
            expected="a file that `eesearch profile` wrote",
            do="Measure it again: `eesearch profile STUDY --out FILE`.",
        ) from error


def profile_bytes(path: Path) -> bytes:
    """The content of a profile's file.

    Raises:
        CostError: there is no such file, or it is too large.
    """
    try:
        with path.open("rb") as file:  # not more than that, whatever the file is
            content = file.read(LARGEST_PROFILE + 1)
    except OSError as error:
        raise CostError(f"the profile {path} cannot be read", got=error.strerror, do="Check its path.") from error
    if len(content) > LARGEST_PROFILE:
        raise CostError(f"the profile {path} is too large", expected=f"at most {LARGEST_PROFILE:,} bytes")
    return content


def _require_covers(found: DeviceProfile, heads: Mapping[str, Mapping[str, float]], decisions: Sequence[str]) -> None:
    known = found.latency.decision_ms if found.latency else decisions
    missing = [
        f"head '{name}' at '{cut}'"
        for cut, names in heads.items()
        for name in names
        if name not in (found.latency.head_ms if found.latency else found.macs_head).get(cut, {})
    ]
    missing += [f"decision '{name}'" for name in decisions if name not in known]
    if missing:
        raise CostError(
            f"the profile {found.device} does not cover this study",
            got=f"no {', no '.join(missing)}",
            do=_MEASURE_THERE,
        )


def _require_same_network(found: DeviceProfile, backbone: Backbone, prefix: Sequence[float]) -> None:
    """A profile from elsewhere may know more cuts; at those that both know, the multiply-adds must be the same."""
    cuts = [cut.name for cut in backbone.cuts]
    missing = [cut for cut in cuts if cut not in found.cuts]
    if missing:
        raise CostError(f"the profile {found.device} does not know cut {', '.join(missing)}", got=list(found.cuts))
    theirs = [found.macs_prefix[k] for k in (*map(found.cuts.index, cuts), -1)]
    for cut, own, their in zip((*cuts, backbone.output_cut), prefix, theirs, strict=True):
        if own != their:
            raise CostError(
                f"the profile {found.device} is of another network: the multiply-adds up to '{cut}' differ",
                got=f"{their:.0f}",
                expected=f"{own:.0f}",
            )
