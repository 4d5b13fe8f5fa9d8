"""What a study's networks look like from outside: where they can be cut, and what it costs to get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import DeviceProfile
from eesearch.core.errors import StudyError
from eesearch.core.progress import Progress, silent
from eesearch.nets.split import Backbone
from eesearch.study.measured import measured_networks, study_profile
from eesearch.study.profiling import Network
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir


@dataclass(frozen=True)
class InspectedCut:
    """A place where an exit may hang; the last of a network is its own output.

    Attributes:
        shape: Of what a head reads there, without the batch.
        stride: How many pixels or time steps of a sample lie between two of its points, along each axis; "" where
            that means nothing.
        macs: From the input to here, for one sample.
        params: The same.
        latency_ms: The same, by timed device.
        heads: Names of the head designs that fit.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    stride: str
    macs: float
    params: float
    latency_ms: Mapping[str, float]
    heads: tuple[str, ...]


@dataclass(frozen=True)
class InspectedNetwork:
    """A network with its cuts, in its own order, and its output behind them."""

    name: str
    cuts: tuple[InspectedCut, ...]


def inspect_study(
    study: Study, run: Path, devices: tuple[str, ...], *, progress: Progress = silent
) -> tuple[InspectedNetwork, ...]:
    """Split the networks of a study, and measure how far it is to each cut.

    Args:
        study: Names networks, data and space.
        run: Keeps what is measured, for the search.
        devices: Timed ones; none: nothing is measured, only counted.
        progress: Told what is measured.

    Raises:
        InputError: of the part that cannot be used.
    """
    systems = [name for name in devices if name in study.systems]
    if systems:
        raise StudyError("a system is not inspected", got=systems[0], do="Name the devices of its tiers.")
    _, networks = measured_networks(study)
    measured = {name: study_profile(study, RunDir(run), name, networks, progress) for name in ("macs", *devices)}
    return tuple(
        _inspected(name, network, {device: _member(found, name) for device, found in measured.items()})
        for name, network in networks.items()
    )


def _member(found: object, name: str) -> DeviceProfile:
    own = found.members[name] if isinstance(found, CascadeProfile) else found
    assert isinstance(own, DeviceProfile)
    return own


def _inspected(name: str, network: Network, profiles: Mapping[str, DeviceProfile]) -> InspectedNetwork:
    backbone, heads = network
    counted = profiles["macs"]
    places: list[tuple[str, str, tuple[int, ...], str]] = [
        (cut.name, cut.kind, cut.shape, _stride(backbone, cut.kind, cut.shape)) for cut in backbone.cuts
    ]
    places.append((backbone.output_cut, "logits", (backbone.classes,), ""))
    return InspectedNetwork(
        name,
        tuple(
            InspectedCut(
                *place,
                macs=counted.macs_prefix[k],
                params=counted.params_prefix[k],
                latency_ms={
                    d: p.latency.prefix_ms[-1 if k == len(backbone.cuts) else p.cuts.index(place[0])] / p.latency.batch
                    for d, p in profiles.items()
                    if p.latency
                },
                heads=tuple(spec.name for spec in heads.get(place[0], ())),
            )
            for k, place in enumerate(places)
        ),
    )


def _stride(backbone: Backbone, kind: str, shape: tuple[int, ...]) -> str:
    """Of maps and sequences, where samples are images and series."""
    sample = tuple(backbone.example.shape[1:])
    if kind == "map" and len(sample) == 3:
        strides = {round(before / after) for before, after in zip(sample[1:], shape[1:], strict=True)}
        return "x".join(map(str, sorted(strides)))
    if kind == "sequence" and len(sample) == 2:
        return str(round(sample[-1] / shape[0]))
    return ""
