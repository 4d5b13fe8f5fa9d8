"""Profiles of systems: of a study's tiers and links, and of the carries of its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from eesearch.core.costs import DeviceProfile
from eesearch.core.design import HeadSpec, content_key
from eesearch.core.errors import CostError, StudyError
from eesearch.core.systems import Link, SystemProfile, Tier
from eesearch.nets.backbone import Backbone
from eesearch.nets.links import carry_at, carry_bytes, gathered_bytes
from eesearch.study.systems import SystemSpec, TierSpec


def check_system(name: str, spec: SystemSpec, backbone: Backbone) -> None:
    """Refuse boundaries at which the network has no cut, or no one device the whole carry; and devices without views.

    Raises:
        StudyError: so.
    """
    cuts = {cut.name: cut for cut in backbone.cuts}
    unknown = [cut for cut in spec.boundaries if cut not in cuts]
    if unknown:
        expected = f"one of {', '.join(cuts)}" if cuts else "none: it has no exits"
        raise StudyError(f"systems.{name}.boundaries: the network has no cut '{unknown[0]}'", expected=expected)
    devices, views = spec.tiers[0].devices, backbone.origin.views
    if devices == 1:
        return
    if devices != views:
        one = "1: the samples are not views; where they are, write `input: {views: true}`"
        raise StudyError(
            f"systems.{name}.tiers: the devices of '{spec.tiers[0].name}' do not fit the network",
            got=f"{devices} devices",
            expected=f"{views}, one for each view of a sample" if views else one,
        )
    apart = [cut for cut in spec.boundaries if cuts[cut].kind == "views"]
    if apart:
        raise StudyError(
            f"systems.{name}.boundaries: at '{apart[0]}' each device has one view, and codes are of a whole carry",
            expected="cuts behind which views are joined",
        )


def system_profile(
    name: str,
    spec: SystemSpec,
    network: tuple[Backbone, Mapping[str, Sequence[HeadSpec]]],
    measured: Callable[[str], DeviceProfile],
) -> SystemProfile:
    """What the network costs on a system.

    Args:
        name: The system's.
        spec: Its tiers and links.
        network: With all cuts of the search space, and the heads that fit each; without any, it runs on one
            tier or another as a whole.
        measured: Gives the profile of a device.

    Raises:
        StudyError: a boundary is no cut of the network, or the first tier has not a device for each view.
        CostError: a device cannot be measured, or the first tier's knows no time that energy could be made of.
    """
    backbone, heads = network
    check_system(name, spec, backbone)
    tiers = tuple(
        Tier(
            name=tier.name,
            slowdown=tier.slowdown,
            energy=tier.energy,
            devices=tier.devices,
            profile=measured(tier.device),
        )
        for tier in spec.tiers
    )
    energy = tiers[0].energy
    if energy is not None and energy.mj_per_ms is None and tiers[0].profile.energy is None:
        raise CostError(
            f"systems.{name}: the profile of the first tier '{tiers[0].name}' knows no energy",
            do="Declare energy: {mj_per_ms: ...}, the power in W while it computes.",
        )
    untimed = [tier.name for tier in tiers if tier.profile.latency is None]
    if untimed and spec.axis != "bytes":
        raise CostError(
            f"systems.{name}.axis: {spec.axis} needs times, and the profile of tier '{untimed[0]}' has none",
            do="Write axis: bytes, or name a profile that was timed.",
        )
    _require_same_cuts(name, tiers)
    _require_one_at_a_time(name, tiers)
    carries = {cut.name: carry_at(backbone, cut.name) for cut in backbone.cuts}
    return SystemProfile(
        device=name,
        axis=spec.axis,
        fingerprint={**dict(map(_tier_words, spec.tiers)), **_links_words(spec)},
        content=content_key([tier.profile.content for tier in tiers], spec.model_dump(mode="json")),
        tiers=tiers,
        links=spec.links,
        raw_bytes=carry_bytes((backbone.example,)),
        carry_bytes={cut: carry_bytes(carry) for cut, carry in carries.items()},
        coded_bytes={cut: carry_bytes(carries[cut], coded=True) for cut in spec.boundaries},
        gathered_bytes=_gathered(backbone, heads) if tiers[0].devices > 1 else {},
    )


def _require_same_cuts(name: str, tiers: Sequence[Tier]) -> None:
    """A profile from a file may know more cuts than the study."""
    others = [tier.name for tier in tiers if tier.profile.cuts != tiers[0].profile.cuts]
    if others:
        raise CostError(
            f"systems.{name}: the profiles of the tiers '{tiers[0].name}' and '{others[0]}' know different cuts",
            do="Measure them again, for this study.",
        )


def _gathered(backbone: Backbone, heads: Mapping[str, Sequence[HeadSpec]]) -> dict[str, dict[str, float]]:
    """`SystemProfile.gathered_bytes` of the heads at each cut."""
    return {
        cut.name: {head.name: gathered_bytes(head, cut.shape, backbone.classes) for head in heads.get(cut.name, ())}
        for cut in backbone.cuts
        if cut.kind == "views"
    }


def _require_one_at_a_time(name: str, tiers: tuple[Tier, ...]) -> None:
    for tier in tiers:
        if tier.profile.batch != 1:
            raise CostError(
                f"systems.{name}: the profile of tier '{tier.name}' is of batches of {tier.profile.batch}",
                expected="one sample at a time",
            )


def _tier_words(tier: TierSpec) -> tuple[str, str]:
    slower = "" if tier.slowdown == 1.0 else f", times x {tier.slowdown:g} (declared, not measured)"
    several = "" if tier.devices == 1 else f"{tier.devices} devices with a view each: "
    return tier.name, f"{several}{tier.device}{slower}"


def _links_words(spec: SystemSpec) -> dict[str, str]:
    pairs = zip(spec.tiers, spec.tiers[1:], spec.links, strict=False)
    return {f"{a.name} to {b.name}": _link_words(link) for a, b, link in pairs}


def _link_words(link: Link) -> str:
    bits = " or ".join(map(str, link.bits))
    return f"{link.bandwidth:g} Mbit/s, round trip {link.round_trip:g} ms, {bits} bits per value (declared)"
