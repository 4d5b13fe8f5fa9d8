"""Prediction against reality: chosen points run end to end with real early stopping, beside the backbone, on test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.cascades import CascadeProfile, member_of
from eesearch.core.costs import DeviceProfile, StageCosts, stage_costs
from eesearch.core.design import ABSTAINED
from eesearch.core.errors import CostError, PickError, RunError
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.core.weights import mean_right
from eesearch.costs.deployed import lower_policy
from eesearch.costs.devices import Device, parse_device
from eesearch.costs.endtoend import Ran, Ride, run_rides, timing_order
from eesearch.costs.pairing import Compared, compare_blocks, predict_calls, predicted_spent
from eesearch.costs.profile import load_profile, profile_fingerprint
from eesearch.exits.evaluate import replay
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.routing import path_outputs
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.inputs import as_tensor
from eesearch.study.heads import fitting_heads
from eesearch.study.materials import load_backbone, load_study_data, thinned
from eesearch.study.members import cascade_profile
from eesearch.study.picks import Picked
from eesearch.study.profiling import device_profile
from eesearch.study.run import Run
from eesearch.study.verified import Verified, policy_key

log = logging.getLogger(__name__)

NEAR = 1e-4
"""Scores that are closer to a threshold than this may fall on either side of it: other kernels round otherwise."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        seconds: Per point, about, in all processes together.
        processes: Fresh ones.
    """

    seconds: float = 15.0
    processes: int = 3


@dataclass(frozen=True, eq=False)
class _Subject:
    """A point with all that is known about it before it runs.

    Attributes:
        table: What its exits say of the test samples.
        stop: Where each test sample leaves, by the table. [N]
        answer: What it is answered. [N]
        near: Whether a score that it meets is next to a threshold. [N]
        costs: Predicted milliseconds from stop to stop, without whoever is asked as a last resort.
    """

    picked: Picked
    net: ExitNet | CascadeNet
    fits: tuple[Fit, ...]
    table: ExitTable
    stop: NDArray[np.int64]
    answer: NDArray[np.int64]
    near: NDArray[np.bool_]
    costs: StageCosts

    @property
    def policy(self) -> Policy:
        return self.picked.point.cal.policy


def verify(
    run: Run,
    picks: Sequence[Picked],
    device: str,
    *,
    effort: Effort = Effort(),
    progress: Progress = silent,
    ride: Callable[..., None] = run_rides,
) -> tuple[Verified, ...]:
    """Run points end to end on a device of this machine, and write down how predictions were met.

    Each is written to `verified.json` of the run as soon as it is known.

    Args:
        run: A finished search.
        picks: Points of its fronts; those that are told twice run once.
        device: Where they run: one of the run's, or any other one that is here; its profile is measured if need be.
        effort: How much is measured.
        progress: Told what is measured.
        ride: Runs them; tests pass one that needs no time.

    Returns:
        A value per point, in order.

    Raises:
        PickError: a point is the unmodified network, asks the last resort at once, or runs on several devices.
        CostError: nothing can be timed on the device here, or a network fails there.
        RunError: the store lacks a network or a table, the data have changed, or the run cannot be written.
        InputError: what the study names cannot be loaded any more.
    """
    where = _require_timed(device)
    picks = list({policy_key(picked.point.cal): picked for picked in picks}.values())
    for picked in picks:
        what = f"point {picked.number} of {picked.device.device}"
        if picked.device.is_backbone(picked.point):
            raise PickError(f"{what} is the unmodified network: there is nothing to verify")
        if picked.point.cal.policy.asks_at_once:
            raise PickError(f"{what} asks the last resort at once: nothing of it runs here")
        if any(exit_id.tier or exit_id.link for exit_id in picked.point.cal.policy.exits):
            raise PickError(f"{what} runs on several devices", expected="a point of a single device's front")
    x = _test_samples(run)
    profile = _profile(run, device, x, progress)
    nets: dict[str, ExitNet | CascadeNet] = {}
    subjects = [_subject(run, picked, profile, x, nets) for picked in picks]
    found: list[Verified] = []
    per_process = effort.seconds / effort.processes
    rides = [_ride(subject, x, where, per_process) for subject in subjects]

    def finished(number: int, ran: Sequence[Ran]) -> None:
        entry = _verified(subjects[number], rides[number], ran, profile)
        run.directory.add_verified([entry])
        found.append(entry)

    protocol = replace(run.directory.study().measuring, processes=effort.processes)
    backbone = subjects[0].net.backbone
    whole = backbone.span(0, len(backbone.segments))
    ride(rides, whole, x, device=where, protocol=protocol, finished=finished, progress=progress)
    return tuple(found)


def verify_picks(
    run: Run,
    picks: Sequence[Picked],
    device: str | None = None,
    *,
    effort: Effort = Effort(),
    progress: Progress = silent,
) -> tuple[Verified, ...]:
    """`verify` for points of several fronts.

    Args:
        run: A finished search.
        picks: Points of its fronts.
        device: Where all of them run; None: each on the device of its front.
        effort: How much is measured.
        progress: Told what is measured.

    Raises:
        InputError: as `verify`; of all devices before anything runs.
    """
    places: dict[str, list[Picked]] = {}
    for picked in picks:
        if picked.device.system:
            raise CostError(
                f"'{picked.device.device}' is a system: its links and slowdowns are declared, not timed here",
                do="Verify points of the front of a device: search with one among `devices`.",
            )
        places.setdefault(device or picked.device.device, []).append(picked)
    for name in places:
        _require_timed(name)
    found = [verify(run, own, name, effort=effort, progress=progress) for name, own in places.items()]
    return tuple(chain.from_iterable(found))


def _require_timed(name: str) -> Device:
    device = parse_device(name)
    if not device.timed:
        raise CostError(
            f"nothing runs on the device '{name}' here", do="Name one of this machine: --device cpu:eager:t1:b1."
        )
    return device


def _test_samples(run: Run) -> NDArray[Any]:
    """The test split that the run was made with."""
    if run.test is not None:
        return run.test
    test = load_study_data(run.question()).test
    made_with = run.answers.data.get("hashes", {}).get("test")
    if test.key != made_with:
        raise RunError(
            f"the test split is not the one that {run.directory.path} was made with",
            got=test.key,
            expected=made_with,
            do="Restore the data.",
        )
    return test.x


def _profile(run: Run, device: str, x: NDArray[Any], progress: Progress) -> DeviceProfile | CascadeProfile:
    """That of the search, if it is of this machine; of another device, one that is measured now."""
    file, study = run.directory.profile_file(device), run.directory.study()
    if len(study.backbones) > 1:
        reference = member_of(run.device().backbone.cal.policy.exits[-1])
        return cascade_profile(run.question(), run.directory, device, reference, x[:2], progress=progress)
    if device in study.devices and file.is_file():
        found = load_profile(file)
        own = profile_fingerprint(parse_device(device), study.measuring)
        other = sorted(n for n in own.keys() | found.fingerprint.keys() if own.get(n) != found.fingerprint.get(n))
        if "processor" in other:
            raise CostError(
                f"{device} of {run.directory.path} was measured on another machine: its predictions are not about this",
                got=found.fingerprint.get("processor"),
                expected=own["processor"],
                do="Verify there, or search here with another --run.",
            )
        if other:
            log.warning("%s was profiled under other circumstances: %s", device, ", ".join(other))
        return found
    study = study if run.backbone else run.question()
    backbone = run.backbone or thinned(load_backbone(study, x[:2]), study.space.cuts.max_cuts)
    network = backbone, fitting_heads(study.space, backbone)
    return device_profile(study, run.directory, device, network, progress)


def _subject(
    run: Run,
    picked: Picked,
    profile: DeviceProfile | CascadeProfile,
    x: NDArray[Any],
    nets: dict[str, ExitNet | CascadeNet],
) -> _Subject:
    point, design, policy = picked.point, picked.point.cal.design, picked.point.cal.policy
    known = nets.get(design)
    net, fits = run.network(point, x[:2]) if known is None else (known, _fits(run, policy))
    nets[design] = net
    table = _table(run, design)
    if policy.exits[-1].is_last_resort:
        table, _ = with_last_resort(table, (), {})
    stop, answer = replay(policy, table, fits)
    exits = [exit_id for exit_id in policy.exits if not exit_id.is_last_resort]
    costs = stage_costs(profile, exits, policy.decision, "latency_ms")
    return _Subject(picked, net.eval(), fits, table, stop, answer, _near(policy, table, fits, stop), costs)


def _fits(run: Run, policy: Policy) -> tuple[Fit, ...]:
    kept = [run.directory.store.get("fit", key) for key in policy.fits]
    return tuple(Fit.from_arrays(*fit) for fit in kept if fit is not None)


def _table(run: Run, design: str) -> ExitTable:
    kept = run.directory.store.get("table", f"{design}-test")
    if kept is None:
        raise RunError(
            f"the store of {run.directory.path} lacks the test table of design {design}",
            do="Run `eesearch search` with the same study and --run again: it makes what is missing.",
        )
    return ExitTable.from_arrays(*kept)


def _near(policy: Policy, table: ExitTable, fits: Sequence[Fit], stop: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a score that a sample meets lies next to its threshold. [N]"""
    scores, _ = path_outputs(table, [table.row(e) for e in policy.exits], Scoring.of(policy, fits))  # [k, N]
    limits = np.array(policy.thresholds)[:, None]
    beside = np.isfinite(limits) & (np.abs(scores - np.where(np.isfinite(limits), limits, 0.0)) < NEAR)
    met = np.arange(len(scores))[:, None] <= stop
    return np.asarray((beside & met).any(0))


def _ride(subject: _Subject, x: NDArray[Any], device: Device, seconds: float) -> Ride:
    whole = subject.stop[: max(1, len(x) // device.batch) * device.batch]
    together = np.resize(whole, (-(-len(whole) // device.batch), device.batch))
    pair = float(predict_calls(subject.costs, together).mean()) + subject.costs.backbone
    order = timing_order(subject.stop, pair, seconds, batch=device.batch)
    example = as_tensor(x[np.arange(device.batch) % len(x)])
    with torch.no_grad():
        stages = lower_policy(subject.net.stages(subject.policy), subject.policy, subject.fits, example)
    return Ride(stages, order)


def _verified(subject: _Subject, ride: Ride, ran: Sequence[Ran], profile: DeviceProfile | CascadeProfile) -> Verified:
    assert profile.latency is not None
    device, point = subject.picked
    blocks, calls, batch = ride.order.shape
    answer, stop = (np.array(getattr(ran[0].said, name)) for name in ("answer", "stop"))
    compared = compare_blocks([each.timed(ride.order) for each in ran])
    other = (answer != subject.answer) | (stop != subject.stop)
    right = (answer == subject.table.labels) | (answer == ABSTAINED)
    return Verified(
        device=profile.device,
        front=device.device,
        point=subject.picked.number,
        policy=policy_key(point.cal),
        fingerprint=profile.fingerprint,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        batch=batch,
        samples=len(np.unique(ride.order)),
        total=len(answer),
        calls=len(ran) * blocks * calls,
        blocks=len(ran) * blocks,
        processes=len(ran),
        predicted=predicted_spent(predict_calls(subject.costs, subject.stop[ride.order].reshape(-1, batch))),
        predicted_backbone=subject.costs.backbone,
        **_measured(compared, profile.latency.noise),
        accuracy=float(mean_right(right, subject.table.weights)),
        table_accuracy=point.test.accuracy,
        differing=int((other & ~subject.near).sum()),
        near=int((other & subject.near).sum()),
    )


def _measured(compared: Compared, noise: float) -> dict[str, Any]:
    return {
        "measured": compared.exits,
        "backbone": compared.backbone,
        "ratio": compared.ratio,
        "interval": compared.interval,
        "noise": max(noise, compared.processes_spread, compared.spread),
        "spread": compared.spread,
        "contention": compared.contention,
    }
