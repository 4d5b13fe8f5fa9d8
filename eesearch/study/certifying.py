"""Risk control: certify the cheapest point of a run's front that loses no more than asked for, on unseen samples.

Pareto testing (Laufer-Goldshtein et al., ICLR 2023): candidates and their order come from calibration, the tests from
samples that had no part in the search. Where a policy answers as the backbone does, nothing is lost, whatever the truth
is: of an unlabelled pool, only those samples need labels on which they differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eesearch.core.cascades import member_of
from eesearch.core.design import ABSTAINED
from eesearch.core.errors import DataError, EesearchError, InputError, PickError, RunError
from eesearch.core.paired import Paired
from eesearch.core.policy import Fit, Policy
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import replay
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.tiers import with_places
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.links import CODED
from eesearch.solve.trust import order_of_tests, p_value
from eesearch.study.answers import DeviceAnswer
from eesearch.study.certificates import DIGITS, Candidate, Certified, Query, front_key, recorded, settle
from eesearch.study.materials import load_study_data, recall_table
from eesearch.study.picks import Pick
from eesearch.study.points import Point
from eesearch.study.pools import UNLABELLED, Pool, ToLabel, known_rows, labels_key, read_pool, repeated
from eesearch.study.run import Run
from eesearch.training.accelerator import find_device, placed
from eesearch.training.collect import collect
from eesearch.training.data import Split

log = logging.getLogger(__name__)

Classes = NDArray[np.int64]
"""A class per sample. [N]"""


def certify(
    run: Run,
    max_drop: float | str,
    *,
    confidence: float = 0.9,
    device: str | None = None,
    pool: Pool | None = None,
    share: Split | None = None,
    progress: Progress = silent,
) -> Certified:
    """Certify the cheapest point that loses at most so much accuracy to the backbone on new samples.

    The question is written into the ledger of the run: see `eesearch.study.certificates`.

    Args:
        run: Its front is what calibration chose; the certification samples had no part in it.
        max_drop: Such as `"1%"`, or 0.01.
        confidence: That the promise is kept, whatever samples there happened to be.
        device: On whose front; the study's first by default.
        pool: Samples to certify on; None: the certification share of the study.
        share: That share, where the search was given arrays in another session; otherwise the run has it, or loads it.
        progress: Told of networks that run.

    Raises:
        PickError: there is no such device, or nothing on its front is cheaper than the backbone.
        DataError: the study has reserved no share; the pool is of another kind, was calibrated or trained on, or lacks
            labels that are needed.
        InputError: the samples were asked too often already, or what the study names cannot be loaded.
        RunError: the store lacks a network; the data have changed; the ledger is damaged or cannot be written.
    """
    _refuse_weights(run)
    picked, drop = run.device(device), _drop(max_drop)
    query = Query(
        source=_share_key(run) if pool is None else pool.source,
        device=picked.device,
        front=front_key(picked),
        max_drop=drop,
        confidence=_checked(confidence),
    )
    if pool is None:
        known = recorded(run.directory, query)
        if known is not None:
            return known
        held = run.cert if share is None else share
        split = _unchanged(run, "cert", load_study_data(run.question()).cert if held is None else held)
    else:
        _check_pool(run, pool)
        split = pool.split
    candidates = _candidates(run, picked, drop, progress)
    said = _ask(run, picked, [picked.points[c.number] for c in candidates], split, progress)
    if pool is not None:
        query = query.model_copy(update={"labels": labels_key(pool, said.differing)})
    return settle(run.directory, query, picked.axis, candidates, said.counts())


def to_label(
    run: Run, max_drop: float | str, pool: Pool, *, device: str | None = None, progress: Progress = silent
) -> ToLabel:
    """Which samples of a pool must be labelled before `certify` can be asked; looks at no label, and is no question.

    Raises:
        PickError: as `certify`.
        DataError: the pool is of another kind.
        RunError: the store lacks a network.
    """
    _refuse_weights(run)
    _check_pool(run, pool)
    picked = run.device(device)
    points = [picked.points[c.number] for c in _candidates(run, picked, _drop(max_drop), progress)]
    said = _ask(run, picked, points, pool.split, progress)
    return ToLabel(tuple(said.differing.tolist()), len(pool.x))


def certify_files(
    run: Run,
    max_drop: str,
    *,
    confidence: float = 0.9,
    device: str | None = None,
    pool: Path | None = None,
    labels: Path | None = None,
    progress: Progress = silent,
) -> tuple[str, str]:
    """What `eesearch certify` prints: the certificate, or the list of what must be labelled first.

    Returns:
        The text, and a remark on it.

    Raises:
        InputError: `labels` without `pool`; or as `certify`.
    """
    if pool is None:
        if labels is not None:
            raise InputError("--labels are those of a pool", got="no pool", do="Add --pool X.npz.")
        return _told(certify(run, max_drop, confidence=confidence, device=device, progress=progress))
    _checked(confidence)
    read = read_pool(pool, labels, run.answers.class_names, run.samples)
    if labels is None and (read.y == UNLABELLED).all():
        wanted = to_label(run, max_drop, read, device=device, progress=progress)
        return wanted.to_csv(), f"{wanted}, and give the file with --labels."
    return _told(certify(run, max_drop, confidence=confidence, device=device, pool=read, progress=progress))


def _told(certified: Certified) -> tuple[str, str]:
    query = certified.asked.query
    pick = f"certified={100.0 * query.max_drop:.10g}%@{query.device}"
    return f"{certified}\n", "" if certified.chosen is None else f"take it along with --pick {pick}"


def _drop(max_drop: float | str) -> float:
    if "@" in str(max_drop):
        raise PickError(
            f"'{max_drop}' is no drop", expected="such as 1%", do="Name the device with --device (device=)."
        )
    return round(Pick.parse(f"max-drop={max_drop}").amount, DIGITS)


def _checked(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise InputError("a confidence lies between 0 and 1", got=f"{confidence:g}", expected="such as 0.9")
    return confidence


def _refuse_weights(run: Run) -> None:
    if "class_weights" in run.answers.data:
        raise DataError(
            "a certificate counts samples, and the samples of this run count by their class",
            got="data.class_weights",
            do="Search without class weights in another run to certify one.",
        )


def _share_key(run: Run) -> str:
    """Content hash of the certification share."""
    key = _hash(run, "cert")
    if not key:
        raise DataError(
            f"the study of {run.directory.path} has reserved no samples for certification",
            do="Search with `--set data.certification=0.5 --run ANOTHER`, or certify on new samples: --pool X.npz.",
        )
    return key


def _hash(run: Run, name: str) -> str:
    """The content hash of a split that the run was made with."""
    return str(_recorded(run, "hashes").get(name, ""))


def _recorded(run: Run, what: str) -> Any:
    """What the answers of a run record of its data."""
    found = run.answers.data.get(what)
    if found is None:
        raise RunError(
            f"{run.directory.path / 'front.json'} does not tell the {what} of the run's data",
            do="Run `eesearch search` with the same study and --run again: it rewrites the file from the store.",
        )
    return found


def _unchanged(run: Run, name: str, split: Split | None) -> Split:
    made_with = _hash(run, name)
    if split is None or split.key != made_with:
        raise RunError(
            f"the {name} split is not the one that {run.directory.path} was made with",
            got="none" if split is None else split.key,
            expected=made_with,
            do="Restore the data.",
        )
    return split


def _check_pool(run: Run, pool: Pool) -> None:
    """Refuse samples of another kind, and those of the run itself."""
    made_on = _recorded(run, "sample_dtype"), _recorded(run, "sample_shape")
    if (str(pool.x.dtype), list(pool.x.shape[1:])) != made_on:
        raise DataError(
            "the samples of the pool are not like those that the run was made on",
            got=f"{pool.x.dtype} {list(pool.x.shape[1:])}",
            expected=f"{made_on[0]} {made_on[1]}",
            do="Give raw samples, of the kind and range that the study's data have.",
        )
    own = {key: name for name, key in _recorded(run, "hashes").items()}.get(pool.split.key)
    if own is not None:
        advice = "Leave --pool out: it is what is asked by default." if own == "cert" else "Give samples that are new."
        raise DataError(f"the pool is the {own} split of the run", expected="samples of its own", do=advice)
    for name, rows in known_rows(pool, _splits(run)).items():
        raise DataError(
            f"the pool holds {len(rows):,} samples of the {name} split of the run",
            got=f"x[{rows[0]}], for one",
            expected="samples that had no part in the search",
            do="Leave them out of the pool.",
        )
    twice = repeated(pool)
    if twice:
        log.warning(
            "%d of the %d samples in the pool are equal to an earlier one. A certificate is about samples that were "
            "drawn independently of each other.",
            twice,
            len(pool.x),
        )


def _splits(run: Run) -> tuple[Split, ...]:
    """The run's own samples, as far as they can be had."""
    try:
        return load_study_data(run.question()).splits
    except EesearchError as error:
        log.warning("the pool is not searched for samples of the run, as its data cannot be loaded: %s", error)
    return ()


def _candidates(run: Run, device: DeviceAnswer, drop: float, progress: Progress) -> list[Candidate]:
    """Points that are cheaper than the backbone, thinned and ordered by what calibration says of them.

    Those that lose too much even where they were chosen have no prospects: they are left out, as they would take places
    among the tested, and labels. If all do, the safest one is left, so that the question has an answer.
    """
    unit = device.backbone.cal.costs[device.axis].mean
    cheaper = [p for p in device.points if p.cal.costs[device.axis].mean < unit]
    if not cheaper:
        raise PickError(
            f"the front of {device.device} has no point that is cheaper than the backbone",
            do="There is nothing to certify; search longer.",
        )
    promising = [p for p in cheaper if device.drop(p) < drop] or [min(cheaper, key=device.drop)]
    selected = _ask(run, device, promising, None, progress).counts()
    estimated = np.array([p_value(paired, drop) for paired in selected])
    costs = np.array([p.cal.costs[device.axis].mean / unit for p in promising])
    return [
        Candidate(
            number=device.points.index(promising[i]),
            design=promising[i].cal.design,
            policy=promising[i].cal.policy,
            cost=float(costs[i]),
            selected=selected[i],
            estimated=float(estimated[i]),
        )
        for i in order_of_tests(estimated, costs)
    ]


class _Said(NamedTuple):
    """What is answered on a split.

    Attributes:
        policies: By each policy. [P, N]
        backbone: [N]
        labels: [N]
    """

    policies: Classes
    backbone: Classes
    labels: Classes

    @property
    def differing(self) -> NDArray[np.intp]:
        """The samples on which any policy differs from the backbone; handing on is an answer of its own."""
        return np.flatnonzero((self.policies != self.backbone).any(0))

    def counts(self) -> list[Paired]:
        """Each policy and the backbone; what is handed on counts as right. [P]"""
        right = (self.policies == self.labels) | (self.policies == ABSTAINED)
        whole = self.backbone == self.labels
        return [Paired.of(own, whole) for own in right]


def _ask(run: Run, device: DeviceAnswer, points: Sequence[Point], split: Split | None, progress: Progress) -> _Said:
    """Every network runs once; on calibration (`split` is None) the tables of the store answer."""
    own, rows, whole, labels = device.backbone.cal.policy.exits[-1], dict[int, Classes](), None, None
    fits = {key: _fit(run, key) for key in {key for point in points for key in point.cal.policy.fits}}
    for design in dict.fromkeys(point.cal.design for point in points):
        mine = {i: point for i, point in enumerate(points) if point.cal.design == design}
        table = _with_places(run, list(mine.values()), split, progress)
        rows |= {i: _answered(point.cal.policy, table, fits) for i, point in mine.items()}
        labels = table.labels
        if own in table.exits:
            whole = table.logits[table.row(own)].argmax(-1)
    if whole is None:  # every network on the front was trained further
        table = _backbone_table(run, device, split, progress)
        whole = table.logits[table.row(own) if member_of(own) else -1].argmax(-1)
    assert labels is not None, "there is at least one point"
    return _Said(np.stack([rows[i] for i in range(len(points))]), whole, labels)


def _with_places(run: Run, points: Sequence[Point], split: Split | None, progress: Progress) -> ExitTable:
    """The same with the exits on tiers that points on a system stop at; what is said behind links is collected now."""
    table, coded = _table(run, points, split, progress), dict[str, ExitTable]()
    exits = [e for point in points for e in point.cal.policy.exits]
    for link in sorted({e.link for e in exits if e.link}):
        data = split or _unchanged(run, "cal", load_study_data(run.question()).cal)
        net, _ = run.network(points[0], data.x[:2])
        coded[link] = collect(net.behind(link.removeprefix(CODED)), data, progress=progress)
    return with_places(table, exits, coded)


def _table(run: Run, points: Sequence[Point], split: Split | None, progress: Progress) -> ExitTable:
    """What the exits that points of one design stop at say about a split."""
    if split is None:
        kept = recall_table(run.directory.store, f"{points[0].cal.design}-cal", _hash(run, "cal"))
        if kept is not None:
            return kept
        split = _unchanged(run, "cal", load_study_data(run.question()).cal)
    net, _ = run.network(points[0], split.x[:2])
    used = {(e.cut, e.head) for point in points for e in point.cal.policy.exits}
    return _collected(run, net.only(used), split, progress)


def _backbone_table(run: Run, device: DeviceAnswer, split: Split | None, progress: Progress) -> ExitTable:
    """The same of the unmodified backbone: of one network alone it is the last row."""
    bank = next((trial.design for trial in run.answers.trials if trial.origin == "bank" and trial.design), None)
    if split is None and bank is not None:
        kept = recall_table(run.directory.store, f"{bank}-cal", _hash(run, "cal"))
        if kept is not None:
            return kept
    if split is None:
        split = _unchanged(run, "cal", load_study_data(run.question()).cal)
    return _collected(run, run.network(device.backbone, split.x[:2])[0], split, progress)


def _collected(run: Run, net: ExitNet | CascadeNet, split: Split, progress: Progress) -> ExitTable:
    with placed(net, find_device(run.directory.study().resources.accelerator)):
        return collect(net, split, progress=progress)


def _fit(run: Run, key: str) -> Fit:
    kept = run.directory.store.get("fit", key)
    if kept is None:
        raise RunError(
            f"the store of {run.directory.path} lacks fit {key}",
            do="Run `eesearch search` with the same study and --run again: it makes what is missing.",
        )
    return Fit.from_arrays(*kept)


def _answered(policy: Policy, table: ExitTable, fits: Mapping[str, Fit]) -> Classes:
    """What a policy answers to each sample. [N]"""
    if policy.exits[-1].is_last_resort:
        known = np.maximum(table.labels, 0)  # what the last resort would say does not matter: it counts as right
        table, _ = with_last_resort(replace(table, labels=known), (), {})
    return replay(policy, table, [fits[key] for key in policy.fits])[1]
