"""Branch and bound on boxes of thresholds: the exact search of paths for the cheapest policy at each number of errors.

The outer loop runs over paths, the inner one over a path's boxes, the whole path first: a box that the incumbents beat
wherever it could be any good (`bounds`) is dropped, any other is halved at the stop where most samples are torn between
a cheap wrong answer and a dear right one (`branch`). Nothing else is dropped: what is found is exact.

Blocks of paths are searched in parallel, in rounds: every block starts from the incumbents at the start of its round,
and what it finds is merged in the order of the paths. How paths fall into blocks and rounds depends on nothing but
their number, so results are the same whatever the number of threads. Costs are sums in float64, and compared as such.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from eesearch.solve.bounds import Floats, Keys, Limits, Paths, Problem, lower
from eesearch.solve.branch import ONLY_FLOOR, STOP, Flag, Incumbents, Job, evaluate_rows, search_range
from eesearch.solve.kernel import Counts, pack

__all__ = [
    "Incumbents",
    "Keys",
    "Limits",
    "Open",
    "Paths",
    "evaluate_all",
    "no_incumbents",
    "no_limits",
    "search_paths",
]

BLOCKS = 16
"""Blocks of a round."""

FIRST_ROUND, LARGEST_BLOCK = 16, 64
"""Paths in the first round, of which each later one has twice as many, up to so many per block."""

FEW, MANY = 24, 128
"""Levels per stop that are searched first, where there are more than so many."""

ROOTS = 4096
"""Paths whose floor is computed at a time."""

MOST_WORDS = 1 << 24
"""Words of samples, over all paths left unexplored, up to which their floor is that of every path on its own."""

POLL = 0.02
"""Seconds between two questions whether to stop."""

Stop = Callable[[], bool]
Span = tuple[int, int]
T = TypeVar("T")


class Open(NamedTuple):
    """What was left unexplored.

    Attributes:
        floor: No unexplored policy with at most so many errors costs less, unless an incumbent is as good; inf where
            nothing is left. [N + 1]
    """

    floor: Floats


def no_incumbents(most: int, longest: int) -> Incumbents:
    """Nothing found yet, with at most so many errors, on paths of at most so many thresholded stops."""
    return Incumbents(
        envelope=np.full(most + 1, np.inf),
        cost=np.full(most + 1, np.inf),
        path=np.zeros(most + 1, np.int64),
        levels=np.zeros((most + 1, longest), np.int64),
    )


def no_limits(paths: int, longest: int, words: int) -> Limits:
    """Any policy will do."""
    return Limits(
        late=np.zeros((paths, 0), np.int64),
        late_share=np.zeros(0, np.int64),
        paid=np.zeros((paths, 0, longest + 1)),
        at_most=np.zeros(0),
        classes=np.zeros((0, words), np.uint64),
        need=np.zeros(0, np.int64),
    )


def search_paths(
    keys: Keys,
    paths: Paths,
    limits: Limits,
    best: Incumbents,
    *,
    first: int = 0,
    threads: int | None = None,
    stop: Stop | None = None,
) -> Open:
    """Find every policy on some paths that none found before or here is as good as, and update the incumbents.

    Args:
        keys: What stops do.
        paths: In this order; those that probably hold good policies should come first.
        limits: What policies must satisfy.
        best: Changed in place.
        first: Number of the first path; paths are kept by their number.
        threads: As many as there are cores if None.
        stop: Asked every few hundredths of a second whether to give up.

    Returns:
        What was not explored; nothing unless it was stopped.
    """
    problem = _problem(keys, paths, limits)
    flag = np.zeros(1, np.uint8)
    with _workers(threads, flag) as workers:
        crew = _Crew(workers, flag, stop)
        hints = _search_few_levels(crew, problem, best, first) if problem.keys.levels.max(initial=0) > MANY else None
        left, floor = _search_all(crew, problem, best, first)
        if hints is not None:
            _merge(best, hints)  # those not found again, had it been stopped before
        _lower_all(workers, problem, best, left, floor)
    return Open(np.minimum.accumulate(floor))


def _problem(keys: Keys, paths: Paths, limits: Limits) -> Problem:
    samples, total = int(keys.sizes.sum()), int(keys.units @ keys.sizes)
    ends = np.cumsum(-(-keys.sizes // 64))
    return Problem(_plain(keys), _plain(paths), _plain(limits), samples, total, ends)


class _Crew(NamedTuple):
    """Who searches, and when they stop."""

    workers: ThreadPoolExecutor
    flag: Flag
    stop: Stop | None

    def told_to_stop(self) -> bool:
        """Whether to begin nothing else."""
        if self.stop is not None and not self.flag[0] and self.stop():
            self.flag[0] = STOP
        return bool(self.flag[0])

    def wait(self, tasks: Sequence[Future[Any]]) -> None:
        """Wait for tasks, and let them stop. As this is the caller's thread, Ctrl-C is heard too."""
        waiting = set(tasks)
        while waiting:
            _, waiting = wait(waiting, timeout=POLL)
            if waiting:
                self.told_to_stop()


@contextmanager
def _workers(threads: int | None, flag: Flag) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; whatever still runs when it is left, on Ctrl-C for instance, ends at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads or min(cores, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        flag[0] = STOP
        pool.shutdown(cancel_futures=True)


def _search_all(crew: _Crew, problem: Problem, best: Incumbents, first: int) -> tuple[list[Span], Floats]:
    """Search all paths; returns those not begun, and the floor of those not finished."""
    total, begin, left, floor = len(problem.paths.early), 0, list[Span](), np.full(len(best.envelope), np.inf)
    for size in _rounds(total):
        if crew.told_to_stop():
            break
        blocks = _spans(begin, begin + size, -(-size // BLOCKS))
        tasks = [crew.workers.submit(_block, problem, best, first, block, crew.flag) for block in blocks]
        crew.wait(tasks)
        for task, (_, end) in zip(tasks, blocks, strict=True):
            found = task.result()
            _merge(best, found)
            np.minimum(floor, found.floor, out=floor)
            left += [(found.explored, end)] if found.explored < end else []
        begin += size
    return left + ([(begin, total)] if begin < total else []), floor


def _search_few_levels(crew: _Crew, problem: Problem, best: Incumbents, first: int) -> _Found:
    """Search some of the levels first: what they come to cuts the search of all of them by a quarter or more.

    The envelope comes down to the next number above what is found, so that it is found again, in its order.
    """
    keys, paths = problem.keys, problem.paths
    levels = np.minimum(keys.levels, FEW)
    chosen = (np.arange(FEW) + 0.5) * np.maximum(keys.levels, 1)[:, None] // levels.clip(1)[:, None]
    chosen = chosen.astype(np.int64).clip(0, keys.leaves.shape[1] - 1)  # [Q, FEW]
    leaves = np.take_along_axis(keys.leaves, chosen[:, :, None], 1)
    few = problem._replace(keys=keys._replace(leaves=leaves, levels=levels))
    hints = no_incumbents(problem.total, best.levels.shape[1])
    hints.envelope[:] = best.envelope
    _search_all(crew, few, hints, first)
    np.minimum(best.envelope, np.nextafter(hints.envelope, np.inf), out=best.envelope)
    found = _found(hints, hints.envelope, 0)
    early = paths.early[found.path - first]
    for k in range(paths.keys.shape[1] - 1):
        at = np.flatnonzero(early > k)
        found.levels[at, k] = chosen[paths.keys[found.path[at] - first, k], found.levels[at, k]]
    return found


def _plain(arrays: T) -> T:
    """The arrays as the compiled code knows them: contiguous, writable, of one width."""
    width = {"u": np.uint64, "i": np.int64, "f": np.float64}
    return type(arrays)(*(np.require(a, width[a.dtype.kind], ("C", "A", "W")) for a in arrays))  # type: ignore[attr-defined]


def _rounds(total: int) -> Iterator[int]:
    """Paths of each round."""
    size = FIRST_ROUND
    while total > 0:
        yield min(size, total)
        total -= size
        size = min(2 * size, BLOCKS * LARGEST_BLOCK)


def _spans(begin: int, end: int, size: int) -> list[Span]:
    """Blocks of a range."""
    return [(start, min(start + size, end)) for start in range(begin, end, size)]


class _Found(NamedTuple):
    """What a block came to: policies by number of errors, the floor of what it left open, the first path not begun."""

    errors: Counts
    cost: Floats
    path: Counts
    levels: Counts
    floor: Floats
    explored: int


def _block(problem: Problem, best: Incumbents, first: int, span: Span, flag: Flag) -> _Found:
    """Search the paths of a block as if they were alone."""
    mine = no_incumbents(problem.total, best.levels.shape[1])
    mine.envelope[:] = best.envelope
    job = Job(problem, mine, np.full(len(best.envelope), np.inf), first, flag)
    explored = search_range(job, *span)
    return _found(mine, job.floor, explored)


def _found(mine: Incumbents, floor: Floats, explored: int) -> _Found:
    """What was found without the empty entries: only this need wait for the end of the round."""
    errors = np.flatnonzero(mine.cost < np.inf)
    return _Found(errors, mine.cost[errors], mine.path[errors], mine.levels[errors], floor, explored)


def _merge(best: Incumbents, found: _Found) -> None:
    """Take over what is strictly cheaper than what there is."""
    better = found.cost < best.envelope[found.errors]
    errors = found.errors[better]
    best.envelope[errors] = best.cost[errors] = found.cost[better]
    best.path[errors], best.levels[errors] = found.path[better], found.levels[better]
    np.minimum.accumulate(best.envelope, out=best.envelope)


def _lower_all(
    workers: ThreadPoolExecutor, problem: Problem, best: Incumbents, left: Sequence[Span], floor: Floats
) -> None:
    """Bring the floor down to ranges of paths that were not begun."""
    if sum(end - begin for begin, end in left) * problem.keys.right.shape[1] > MOST_WORDS:
        _lower_together(problem, left, floor)
        return

    def lowered(span: Span) -> Floats:
        job = Job(problem, best, np.full(len(floor), np.inf), 0, np.full(1, ONLY_FLOOR, np.uint8))
        search_range(job, *span)
        return job.floor

    for each in workers.map(lowered, [span for begin, end in left for span in _spans(begin, end, ROOTS)]):
        np.minimum(floor, each, out=floor)


def _lower_together(problem: Problem, left: Sequence[Span], floor: Floats) -> None:
    """Bring the floor down to a bound for all policies on many paths at once; looser, but fast.

    Each sample pays the least that leaving at any key that is right about it costs on any of the paths; where none is,
    or where an error is allowed, the least of all.
    """
    keys, paths, samples = problem.keys, problem.paths, problem.samples
    price = np.full(len(keys.levels), np.inf)
    for begin, end in left:
        stops = np.arange(paths.keys.shape[1]) <= paths.early[begin:end, None]
        np.minimum.at(price, paths.keys[begin:end][stops], paths.paid[begin:end][stops])
    order = np.argsort(price, kind="stable")[: np.isfinite(price).sum()]
    begins = np.concatenate([[0], problem.ends[:-1]])
    rest, moved = np.full(keys.right.shape[1], ~np.uint64(0)), np.zeros((len(order), len(begins)), np.int64)
    for i, key in enumerate(order):
        moved[i] = np.add.reduceat(np.bitwise_count(rest & keys.right[key]), begins, dtype=np.int64)
        rest &= ~keys.right[key]
    least = price[order[0]]
    savings, units = ((price[order] - least)[:, None] / keys.units).ravel(), (moved * keys.units).ravel()
    cost, largest = samples * least + units @ savings, np.argsort(-savings, kind="stable")
    lower(floor, problem.total - int(units.sum()), float(cost), savings[largest], units[largest])


def evaluate_all(keys: Keys, path: Sequence[int], samples: int) -> tuple[Counts, Counts]:
    """What becomes of the samples on one path under every choice of its levels.

    Args:
        keys: What stops do.
        path: Keys of its stops; at the last one everybody leaves. [k + 1]
        samples: N.

    Returns:
        Samples that leave at each stop. [levels of the first stop, ..., of the last with levels, k + 1]
        Errors. [levels of the first stop, ...]
    """
    keys, stops, everyone = _plain(keys), np.array(path, np.int64), pack(np.ones(samples, np.bool_))
    shape = tuple(keys.levels[stops[:-1]].tolist())
    leaving, errors = evaluate_rows(keys, stops, everyone, prod(shape))
    leaving[:, -1] = samples - leaving[:, :-1].sum(1)
    return leaving.reshape(*shape, len(stops)), errors.reshape(shape)
