"""Systems of a study file: which devices stand in a row, what joins them, and what of it is declared."""

from __future__ import annotations

import re
from functools import partial
from operator import eq
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from eesearch.core.design import Value
from eesearch.core.systems import CODED, MOST_BOUNDARIES, Energy, Link
from eesearch.costs.devices import FORMAT, MACS, is_device_name

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class TierSpec(Value):
    """One tier.

    Attributes:
        device: A device of batch 1, such as `cpu:eager:t1:b1`; it is measured once, however many tiers name it.
        slowdown: By what its times are multiplied: declared, not measured, for what-if studies.
        energy: What computing and sending take, declared; the first tier's alone counts.
        devices: Of the first tier: so many of this kind, side by side, each with one of a sample's views (DDNN).
    """

    name: Name
    device: str
    slowdown: float = Field(default=1.0, gt=0.0)
    energy: Energy | None = None
    devices: int = Field(default=1, ge=1, exclude_if=partial(eq, 1))

    @field_validator("device")
    @classmethod
    def _one_at_a_time(cls, device: str) -> str:
        if not is_device_name(device):
            raise ValueError(f"'{device}' is not a device; expected {FORMAT}")
        batch = re.search(r":b(\d+)$", device)
        if batch and batch[1] != "1":
            raise ValueError(f"a tier takes one sample at a time; got batch {batch[1]}, expected a device with b1")
        return device


class SystemSpec(Value):
    """Devices in a row, joined by links; it may stand among the `devices` of a study.

    Attributes:
        tiers: At least two, the one where samples start first.
        links: From each tier to the next.
        boundaries: Cuts at which links with `bits: 8` may code the carry, at most four; NETWORK/CUT of several.
        axis: What its front minimises beside the error; `energy_mj` is that of the first tier.
    """

    tiers: Annotated[tuple[TierSpec, ...], Field(min_length=2)]
    links: tuple[Link, ...]
    boundaries: tuple[str, ...] = ()
    axis: Literal["latency_ms", "bytes", "energy_mj"] = "latency_ms"

    @model_validator(mode="after")
    def _in_a_row(self) -> SystemSpec:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names):
            raise ValueError(f"tiers need names of their own; got {names}")
        if len(self.links) != len(self.tiers) - 1:
            raise ValueError(
                f"{len(self.tiers)} tiers need {len(self.tiers) - 1} links, one from each to the next; "
                f"got {len(self.links)}"
            )
        several = [tier.name for tier in self.tiers[1:] if tier.devices > 1]
        if several:
            raise ValueError(f"views are joined on the first tier or behind it; tier '{several[0]}' is one device")
        if len(set(self.boundaries)) > MOST_BOUNDARIES:
            raise ValueError(f"at most {MOST_BOUNDARIES} boundaries can be coded; got {len(set(self.boundaries))}")
        if bool(self.boundaries) != any(CODED in link.bits for link in self.links):
            raise ValueError("boundaries and a link with 8 among its bits go together")
        untimed = [tier.name for tier in self.tiers if tier.device == MACS]
        if untimed and self.axis != "bytes":
            raise ValueError(f"axis {self.axis} needs times; tier '{untimed[0]}' only counts: write axis: bytes")
        if self.axis == "energy_mj" and self.tiers[0].energy is None:
            raise ValueError(f"axis energy_mj: the first tier '{names[0]}' tells no energy")
        return self

    @property
    def axes(self) -> frozenset[str]:
        """All axes that it can tell."""
        timed = all(tier.device != MACS for tier in self.tiers)
        paid = timed and self.tiers[0].energy is not None
        return frozenset({"macs", "params", "bytes", *(["latency_ms"] * timed), *(["energy_mj"] * paid)})

    def within(self, network: str) -> SystemSpec:
        """The same for one of several networks, by whose name its boundaries begin."""
        own = tuple(cut for cut in self.boundaries if cut.startswith(f"{network}/"))
        return self.model_copy(update={"boundaries": own})
