"""Which figures are measured on a timed device, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eesearch.core.costs import EnergyProfile, LatencyProfile
from eesearch.core.design import HeadSpec
from eesearch.core.progress import Progress
from eesearch.costs.devices import Device, parse_device
from eesearch.costs.latency import PHASE, Job, Measuring
from eesearch.costs.meters import meter_name
from eesearch.costs.pieces import DecidedTail, Figure, HeadTail, Part, Prepare, preparing
from eesearch.costs.summary import never_decreasing
from eesearch.costs.timer import Clock, Protocol, time_call
from eesearch.nets.heads import Head, build_head
from eesearch.nets.split import Backbone, Cut

METHOD = "2"
"""Part of a profile's fingerprint: raise it when other work is timed under the same names."""

Heads = Mapping[str, Sequence[HeadSpec]]
"""cut -> designs of the heads that may hang there; cuts without heads may be left out."""

_RESUME = "resume"

_STARTING = 3.0
"""Seconds in which a worker starts: it imports torch."""


@dataclass(frozen=True)
class Called:
    """What calls with a number of samples take; `energy` is None where the machine cannot tell."""

    latency: LatencyProfile | None
    energy: EnergyProfile | None = None


def measure_calls(
    backbone: Backbone, heads: Heads, device: Device, decisions: Sequence[str], measuring: Measuring
) -> list[Called]:
    """Measure every figure with every number of samples that a call may have, rising to the device's batch size.

    Raises:
        CostError: a measurement failed.
        HeadError: a head does not fit its cut.
        ModelError: the device's back end cannot take the network.
    """
    figures = latency_figures(backbone, heads, decisions)
    prepare = preparing(backbone, device.runs)
    called, names = [], figure_names(backbone, heads, decisions)
    for number, samples in enumerate(device.sizes):
        progress = _part_of(measuring.progress, number, len(device.sizes))
        found = measuring.measure(_jobs(figures, prepare, samples), device, measuring.protocol, progress)
        ms = {name: timing.ms for name, timing in found.timings.items()}
        figures_ms = _by_part(names, ms)
        latency = LatencyProfile(
            **{f"{part}_ms": value for part, value in figures_ms.items()},
            timings=found.timings,
            noise=found.noise,
            batch=samples,
        )
        told = found.mj.keys() >= found.timings.keys() and found.mj[names.prefixes[-1]] > 0.0  # it did tick
        parts = _by_part(names, found.mj) if told else {}
        energy = EnergyProfile(**{f"{part}_mj": value for part, value in parts.items()}) if told else None
        called.append(Called(latency, energy))
    return called


def _part_of(progress: Progress, number: int, parts: int) -> Progress:
    """Progress in one of several measurements that are alike."""

    def told(phase: str, done: int, total: int) -> None:
        if phase == PHASE:
            progress(phase, number * total + done, parts * total)
        else:
            progress(phase, done, total)

    return told


def _jobs(figures: Sequence[Figure], prepare: Prepare, samples: int) -> list[Job]:
    def prepared(parts: Sequence[Part]) -> Any:
        return tuple(prepare(part, samples) for part in parts)

    return [Job(each.name, prepared(each.parts), prepared(each.minus), each.decides) for each in figures]


def _by_part(called: FigureNames, figures: Mapping[str, float]) -> dict[str, Any]:
    """Figures by their names as what each part of the network costs: the fields of a profile."""
    return {
        "prefix": tuple(never_decreasing([figures[name] for name in called.prefixes])),
        "head": {cut: {head: figures[name] for head, name in own.items()} for cut, own in called.heads.items()},
        "decision": {decision: figures[name] for decision, name in called.decisions.items()},
        "resume": figures[called.resume] if called.resume else 0.0,
    }


@dataclass(frozen=True)
class FigureNames:
    """Which figures tell what.

    Attributes:
        prefixes: In order. [K + 1]
        heads: cut -> head -> its figure; heads that read the same shape share one.
        decisions: decision -> its figure; empty where there are no heads.
        resume: None where there are no heads.
    """

    prefixes: tuple[str, ...]
    heads: dict[str, dict[str, str]]
    decisions: dict[str, str]
    resume: str | None


def figure_names(backbone: Backbone, heads: Heads, decisions: Sequence[str]) -> FigureNames:
    """How the figures of `latency_figures` are called."""
    by_cut = {
        cut.name: {spec.name: head_name(spec, cut) for spec in heads[cut.name]}
        for cut in backbone.cuts
        if heads.get(cut.name)
    }
    return FigureNames(
        prefixes=tuple(map(_prefix, range(len(backbone.segments)))),
        heads=by_cut,
        decisions={name: _decision(name) for name in decisions if by_cut},
        resume=_RESUME if by_cut else None,
    )


def estimate_seconds(
    backbone: Backbone, heads: Heads, device: str, *, decisions: Sequence[str], protocol: Protocol
) -> float:
    """About how long `profile` will take, in seconds; runs the backbone a few times to see how slow it is.

    Half of the rounds that a call may take are expected.
    """
    where = parse_device(device)
    if not where.timed:
        return 0.0
    figures = latency_figures(backbone, heads, decisions)
    calls = sum(2 if figure.minus else 1 for figure in figures)
    loads = sum(len(figure.parts) + len(figure.minus) for figure in figures)
    each = [_STARTING + calls * _per_call(backbone, samples, where, protocol) for samples in where.sizes]
    return protocol.processes * (sum(each) + len(each) * loads * where.runs.loading)


def _per_call(backbone: Backbone, samples: int, device: Device, protocol: Protocol) -> float:
    """Seconds that measuring one call takes, if it is as slow as the whole network in PyTorch."""
    brief = Protocol(warmup=0.0, warmup_max=0.0, round=0.0, rounds_min=3, rounds_max=3)
    x = torch.cat([backbone.example] * samples)
    with torch.inference_mode():
        once = min(time_call(lambda: backbone(x), brief, Clock()).ms) / 1000
    a_round = max(protocol.round, once)
    rounds = (protocol.rounds_min + protocol.rounds_max) / 2 + (protocol.rounds_min if meter_name(device.kind) else 0)
    return max(protocol.warmup, 3 * a_round) + rounds * a_round


def latency_figures(backbone: Backbone, heads: Heads, decisions: Sequence[str]) -> list[Figure]:
    """All figures to measure: prefixes as a whole; heads, decisions and the resumption as differences in place.

    Everything is measured as it is deployed: a prefix is one merged segment, and the last one the unmodified backbone;
    a head, a head with its decision and the segments before them are one piece for the back end.

    A head is measured once for each shape of hidden state that it reads, in the middle of the cuts where it does;
    decisions and the resumption in the middle of all cuts with heads. Not at the first ones: after a stem alone the
    caches still hold the code of head and decision, and both take half of what they take further down.

    Raises:
        HeadError: a head does not fit its cut.
    """
    prefixes = [Part(0, k + 1) for k in range(len(backbone.segments))]
    figures = [Figure(_prefix(k), (prefix,)) for k, prefix in enumerate(prefixes)]
    places = [(k, spec) for k, cut in enumerate(backbone.cuts) for spec in heads.get(cut.name, ())]
    alike: dict[str, list[tuple[int, HeadSpec]]] = {}
    for k, spec in places:
        alike.setdefault(head_name(spec, backbone.cuts[k]), []).append((k, spec))
    for name, same in alike.items():
        k, spec = _middle(same)
        head = build_for(spec, backbone.cuts[k], backbone.classes)
        figures.append(Figure(name, (Part(0, k + 1, HeadTail(head)),), (prefixes[k],)))
    return figures + (_stop_figures(backbone, *_middle(places), decisions) if places else [])


def _stop_figures(backbone: Backbone, cut: int, spec: HeadSpec, decisions: Sequence[str]) -> list[Figure]:
    """What stopping at a cut takes: each decision there, and going on after it."""
    head = build_for(spec, backbone.cuts[cut], backbone.classes)
    undecided, end = Part(0, cut + 1, HeadTail(head)), cut + 2
    decided = [(name, Part(0, cut + 1, DecidedTail(head, name, backbone.classes))) for name in decisions]
    figures = [Figure(_decision(name), (part,), (undecided,), decides=True) for name, part in decided]
    return [*figures, Figure(_RESUME, (Part(0, cut + 1), Part(cut + 1, end)), (Part(0, end),))]


def _middle(places: Sequence[tuple[int, HeadSpec]]) -> tuple[int, HeadSpec]:
    return places[len(places) // 2]


def _prefix(k: int) -> str:
    return f"prefix {k}"


def head_name(spec: HeadSpec, cut: Cut) -> str:
    """Heads of the same name cost the same: the same design on the same shape."""
    return f"head {spec.name} on {'x'.join(map(str, cut.shape))}"


def _decision(name: str) -> str:
    return f"decision {name}"


def build_for(spec: HeadSpec, cut: Cut, classes: int) -> Head:
    """A head for a cut, in eval mode."""
    with torch.random.fork_rng(devices=[]):  # its weights do not matter here, the caller's generator does
        return build_head(spec, cut.shape, classes).eval()
