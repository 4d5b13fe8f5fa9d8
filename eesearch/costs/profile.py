"""What one backbone and all heads of a search space cost on one device; measured once, before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from eesearch.core.costs import DeviceProfile, LatencyProfile
from eesearch.core.design import OUTPUT, HeadSpec, content_key
from eesearch.core.errors import CostError
from eesearch.core.progress import Progress, silent
from eesearch.core.store import write_atomic
from eesearch.costs import macs
from eesearch.costs.devices import Device, fingerprint, parse_device
from eesearch.costs.latency import Job, Measure, measure
from eesearch.costs.macs import count_macs
from eesearch.costs.pieces import DecidedTail, Figure, HeadTail, Part, preparing
from eesearch.costs.summary import never_decreasing
from eesearch.costs.timer import Clock, Protocol, time_call
from eesearch.nets.fitted import FittedBody
from eesearch.nets.heads import Head, build_head
from eesearch.nets.split import Backbone, Cut

Heads = Mapping[str, Sequence[HeadSpec]]
"""cut -> designs of the heads that may hang there; cuts without heads may be left out."""

LARGEST_PROFILE = 2**26
"""Bytes of a profile's file."""

_RESUME = "resume"

_STARTING = 3.0
"""Seconds in which a worker starts: it imports torch."""


@dataclass(frozen=True)
class Measuring:
    """How latency is measured.

    Attributes:
        protocol: How long and how often.
        measure: Turns jobs into figures; tests pass one that needs no time.
        progress: Told after each figure.
    """

    protocol: Protocol = field(default_factory=Protocol)
    measure: Measure = measure
    progress: Progress = silent


def profile(
    backbone: Backbone, heads: Heads, device: str, *, decisions: Sequence[str], measuring: Measuring | None = None
) -> DeviceProfile:
    """Count multiply-adds and, on a timed device, measure latency of every prefix and of every head in place.

    Args:
        backbone: All cuts of the search space.
        heads: All heads of the search space.
        device: `macs`, `cpu:eager:t1:b1`, or the path of a profile (.json), which is read and checked.
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
    counted = {count: _count(backbone, heads, count) for count in (count_macs, _count_params)}
    prefix, by_head = counted[count_macs]
    if where.path is not None:
        found = load_profile(where.path).model_copy(update={"device": device})
        _require_same_network(found, [cut.name for cut in backbone.cuts], prefix)
        _require_covers(found, by_head, decisions)
        return found
    timed = _measure_latency(backbone, heads, where, decisions, measuring) if where.timed else None
    return DeviceProfile(
        device=device,
        fingerprint=profile_fingerprint(where, measuring.protocol),
        content=profile_content(backbone, heads, decisions),
        cuts=tuple(cut.name for cut in backbone.cuts),
        macs_prefix=prefix,
        macs_head=by_head,
        params_prefix=counted[_count_params][0],
        params_head=counted[_count_params][1],
        latency=timed,
    )


def profile_content(backbone: Backbone, heads: Heads, decisions: Sequence[str]) -> str:
    """Key of what is profiled: code, cuts, heads and decisions; weights do not count."""
    cuts = [(cut.name, cut.shape) for cut in backbone.cuts]
    designs = {cut: sorted(spec.model_dump_json() for spec in specs) for cut, specs in heads.items() if specs}
    return content_key(backbone.origin.structure, list(backbone.example.shape), cuts, designs, sorted(decisions))


def profile_fingerprint(device: Device, protocol: Protocol) -> dict[str, str]:
    """Under what a profile's figures were taken: rules of counting, and on a timed device machine and protocol."""
    timed = {"protocol": protocol.name} if device.timed else {}
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


def save_profile(found: DeviceProfile, path: Path) -> None:
    """Write a profile as JSON, atomically.

    Raises:
        RunError: the disk is full, or the directory cannot be written.
    """
    write_atomic(path, found.model_dump_json(indent=2))


def load_profile(path: Path) -> DeviceProfile:
    """Read a profile, whoever wrote it: figures, of which none is run, and none is a path.

    Raises:
        CostError: there is no such file, or it is too large, truncated, malformed or no profile; whoever measured it
            may measure it again.
    """
    try:
        with path.open("rb") as file:  # not more than that, whatever the file is
            content = file.read(LARGEST_PROFILE + 1)
        if len(content) > LARGEST_PROFILE:
            raise CostError(f"the profile {path} is too large", expected=f"at most {LARGEST_PROFILE:,} bytes")
        return DeviceProfile.model_validate_json(content)
    except OSError as error:
        raise CostError(f"the profile {path} cannot be read", got=error.strerror) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CostError(
            f"the profile {path} is damaged",
            got=f"{place}: {first['msg']}" if place else first["msg"],
            expected="a file that `eesearch profile` wrote",
            do="Measure it again: `eesearch profile STUDY --out FILE`.",
        ) from error


def estimate_seconds(
    backbone: Backbone, heads: Heads, device: str, *, decisions: Sequence[str], protocol: Protocol
) -> float:
    """About how long `profile` will take, in seconds; runs the backbone a few times to see how slow it is.

    Half of the rounds that a call may take are expected.
    """
    where = parse_device(device)
    if not where.timed:
        return 0.0
    brief = Protocol(warmup=0.0, warmup_max=0.0, round=0.0, rounds_min=3, rounds_max=3)
    with torch.inference_mode():
        once = min(time_call(lambda: backbone(backbone.example), brief, Clock()).ms) / 1000
    a_round = max(protocol.round, once)
    per_call = max(protocol.warmup, 3 * a_round) + (protocol.rounds_min + protocol.rounds_max) / 2 * a_round
    figures = latency_figures(backbone, heads, decisions)
    calls = sum(2 if figure.minus else 1 for figure in figures)
    loads = sum(len(figure.parts) + len(figure.minus) for figure in figures)
    return protocol.processes * (_STARTING + calls * per_call + loads * where.runs.loading)


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
        alike.setdefault(_head(spec, backbone.cuts[k]), []).append((k, spec))
    for name, same in alike.items():
        k, spec = _middle(same)
        head = _build(spec, backbone.cuts[k], backbone.classes)
        figures.append(Figure(name, (Part(0, k + 1, HeadTail(head)),), (prefixes[k],)))
    return figures + (_stop_figures(backbone, *_middle(places), decisions) if places else [])


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
        cut.name: {spec.name: _head(spec, cut) for spec in heads[cut.name]}
        for cut in backbone.cuts
        if heads.get(cut.name)
    }
    return FigureNames(
        prefixes=tuple(map(_prefix, range(len(backbone.segments)))),
        heads=by_cut,
        decisions={name: _decision(name) for name in decisions if by_cut},
        resume=_RESUME if by_cut else None,
    )


def _stop_figures(backbone: Backbone, cut: int, spec: HeadSpec, decisions: Sequence[str]) -> list[Figure]:
    """What stopping at a cut takes: each decision there, and going on after it."""
    head = _build(spec, backbone.cuts[cut], backbone.classes)
    undecided, end = Part(0, cut + 1, HeadTail(head)), cut + 2
    decided = [(name, Part(0, cut + 1, DecidedTail(head, name, backbone.classes))) for name in decisions]
    figures = [Figure(_decision(name), (part,), (undecided,), decides=True) for name, part in decided]
    return [*figures, Figure(_RESUME, (Part(0, cut + 1), Part(cut + 1, end)), (Part(0, end),))]


def _middle(places: Sequence[tuple[int, HeadSpec]]) -> tuple[int, HeadSpec]:
    return places[len(places) // 2]


def _prepared(backbone: Backbone, figures: Sequence[Figure], device: Device) -> list[Job]:
    """The figures as jobs for a device."""
    prepare = preparing(backbone, device.runs, device.batch)
    return [
        Job(each.name, tuple(map(prepare, each.parts)), tuple(map(prepare, each.minus)), each.decides)
        for each in figures
    ]


def _prefix(k: int) -> str:
    return f"prefix {k}"


def _head(spec: HeadSpec, cut: Cut) -> str:
    return f"head {spec.name} on {'x'.join(map(str, cut.shape))}"


def _decision(name: str) -> str:
    return f"decision {name}"


def _build(spec: HeadSpec, cut: Cut, classes: int) -> Head:
    with torch.random.fork_rng(devices=[]):  # its weights do not matter here, the caller's generator does
        return build_head(spec, cut.shape, classes).eval()


def _measure_latency(
    backbone: Backbone, heads: Heads, where: Device, decisions: Sequence[str], measuring: Measuring
) -> LatencyProfile:
    jobs = _prepared(backbone, latency_figures(backbone, heads, decisions), where)
    found = measuring.measure(jobs, where, measuring.protocol, measuring.progress)
    ms = {name: timing.ms for name, timing in found.timings.items()}
    called = figure_names(backbone, heads, decisions)
    return LatencyProfile(
        prefix_ms=tuple(never_decreasing([ms[name] for name in called.prefixes])),
        head_ms={cut: {head: ms[name] for head, name in own.items()} for cut, own in called.heads.items()},
        decision_ms={decision: ms[name] for decision, name in called.decisions.items()},
        resume_ms=ms[called.resume] if called.resume else 0.0,
        timings=found.timings,
        noise=found.noise,
    )


Counted = Callable[[nn.Module, tuple[torch.Tensor, ...]], float]


def _count(backbone: Backbone, heads: Heads, count: Counted) -> tuple[tuple[float, ...], dict[str, dict[str, float]]]:
    """Each prefix, and each head by cut and name; they add up, so each part is counted once."""
    steps: list[float] = []
    carry: tuple[torch.Tensor, ...] = (backbone.example,)
    for segment in backbone.segments:
        steps.append(count(segment, carry))
        with torch.no_grad():
            carry = segment(*carry)
    counted: dict[str, float] = {}
    for cut in backbone.cuts:
        for spec in heads.get(cut.name, ()):
            if _head(spec, cut) not in counted:
                head = _build(spec, cut, backbone.classes)
                counted[_head(spec, cut)] = count(head, (torch.zeros(1, *cut.shape),))
    by_head = {
        cut.name: {spec.name: counted[_head(spec, cut)] for spec in heads[cut.name]}
        for cut in backbone.cuts
        if heads.get(cut.name)
    }
    return tuple(np.cumsum(steps).tolist()), by_head


def _count_params(module: nn.Module, _: tuple[torch.Tensor, ...]) -> float:
    """All that was learnt: parameters, and the tensors of what was fitted."""
    fitted = [part.state_dict(keep_vars=True).values() for part in module.modules() if isinstance(part, FittedBody)]
    return float(sum(tensor.numel() for tensor in {*module.parameters(), *chain(*fitted)}))


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
            do="Measure it there with this study: `eesearch profile STUDY --out FILE`.",
        )


def _require_same_network(found: DeviceProfile, cuts: Sequence[str], prefix: Sequence[float]) -> None:
    """A profile from elsewhere may know more cuts; at those that both know, the multiply-adds must be the same."""
    missing = [cut for cut in cuts if cut not in found.cuts]
    if missing:
        raise CostError(f"the profile {found.device} does not know cut {', '.join(missing)}", got=list(found.cuts))
    theirs = [found.macs_prefix[k] for k in (*map(found.cuts.index, cuts), -1)]
    for cut, own, their in zip((*cuts, OUTPUT), prefix, theirs, strict=True):
        if own != their:
            raise CostError(
                f"the profile {found.device} is of another network: the multiply-adds up to '{cut}' differ",
                got=f"{their:.0f}",
                expected=f"{own:.0f}",
            )
