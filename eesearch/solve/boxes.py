"""PROVISIONAL, simple and slow; to be replaced by the tuned engine with the same interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eesearch.core.progress import Progress, silent
from eesearch.solve.kernel import Bits, popcount


class Keys(NamedTuple):
    leaves: Bits
    levels: NDArray[np.int64]
    right: Bits


class Paths(NamedTuple):
    keys: NDArray[np.int64]
    early: NDArray[np.int64]
    paid: NDArray[np.float64]


class Limits(NamedTuple):
    late: NDArray[np.int64]
    late_share: NDArray[np.int64]
    paid: NDArray[np.float64]
    at_most: NDArray[np.float64]
    classes: Bits
    need: NDArray[np.int64]


class Incumbents(NamedTuple):
    envelope: NDArray[np.float64]
    cost: NDArray[np.float64]
    path: NDArray[np.int64]
    levels: NDArray[np.int64]


class Open(NamedTuple):
    floor: NDArray[np.float64]


def no_incumbents(samples: int, longest: int) -> Incumbents:
    return Incumbents(
        np.full(samples + 1, np.inf),
        np.full(samples + 1, np.inf),
        np.zeros(samples + 1, np.int64),
        np.zeros((samples + 1, longest), np.int64),
    )


@numba.njit(cache=True)
def _bound(keys, path, early, lo, hi, F, samples):
    """F[f, g]: counts; g == S means no g."""
    S = early + 1
    W = keys.right.shape[1]
    F[:] = 0
    for w in range(W):
        may = np.uint64(0xFFFFFFFFFFFFFFFF)
        if (w + 1) * 64 > samples:
            may = (np.uint64(1) << np.uint64(samples - w * 64)) - np.uint64(1)
        seen = np.uint64(0)
        waiting = np.zeros(S, np.uint64)
        for k in range(S):
            q = path[k]
            leave = may
            if k < early:
                leave = may & keys.leaves[q, lo[k], w]
                may = may & ~keys.leaves[q, hi[k], w]
            new = leave & ~seen
            seen |= leave
            right = keys.right[q, w]
            waiting[k] = new
            for f in range(k + 1):
                got = waiting[f] & leave & right
                F[f, k] += np.int64(popcount(got))
                waiting[f] &= ~got
        for f in range(S):
            F[f, S] += np.int64(popcount(waiting[f]))


@numba.njit(cache=True)
def _feasible(keys, limits, p, path, early, lo, hi, samples):
    S = early + 1
    W = keys.right.shape[1]
    arrive = np.zeros(S, np.int64)
    first = np.zeros(S, np.int64)
    good = np.zeros(len(limits.need), np.int64)
    for w in range(W):
        may = np.uint64(0xFFFFFFFFFFFFFFFF)
        if (w + 1) * 64 > samples:
            may = (np.uint64(1) << np.uint64(samples - w * 64)) - np.uint64(1)
        must = may
        seen = np.uint64(0)
        ok = np.uint64(0)
        for k in range(S):
            q = path[k]
            arrive[k] += np.int64(popcount(must))
            leave = may
            if k < early:
                leave = may & keys.leaves[q, lo[k], w]
                must = must & ~keys.leaves[q, lo[k], w]
                may = may & ~keys.leaves[q, hi[k], w]
            first[k] += np.int64(popcount(leave & ~seen))
            seen |= leave
            ok |= leave & keys.right[q, w]
        for c in range(len(good)):
            good[c] += np.int64(popcount(ok & limits.classes[c, w]))
    for r in range(len(limits.late_share)):
        late = limits.late[p, r]
        if late < S and arrive[late] > limits.late_share[r]:
            return False
    for a in range(len(limits.at_most)):
        total = 0.0
        for k in range(S):
            total += first[k] * limits.paid[p, a, k]
        if total > limits.at_most[a]:
            return False
    for c in range(len(good)):
        if good[c] < limits.need[c]:
            return False
    return True


@numba.njit(cache=True)
def _curve(F, S, paid, curve, env, floor, mode):
    """mode 0: is everything dominated? mode 1: lower floor."""
    N = len(env) - 1
    e0, c0 = 0, 0.0
    for f in range(S):
        e0 += F[f, S]
        c0 += F[f, S] * paid[f]
        for g in range(f, S):
            c0 += F[f, g] * paid[g]
    m = 0
    for f in range(S):
        for g in range(f + 1, S):
            if F[f, g] > 0:
                s = paid[g] - paid[f]
                i = m
                while i > 0 and curve[i - 1, 0] < s:
                    curve[i, 0], curve[i, 1] = curve[i - 1, 0], curve[i - 1, 1]
                    i -= 1
                curve[i, 0], curve[i, 1] = s, F[f, g]
                m += 1
    e, c, i, used = e0, c0, 0, 0
    while True:
        if mode == 0:
            if c < env[e]:
                return False
        elif c < floor[e]:
            floor[e] = c
        if e == N or i == m:
            break
        c -= curve[i, 0]
        e += 1
        used += 1
        if used == curve[i, 1]:
            i += 1
            used = 0
    if mode == 1:
        while e < N:
            e += 1
            if c >= floor[e]:
                break
            floor[e] = c
    return True


@numba.njit(cache=True)
def _search(keys, paths, limits, best, first, start, stop, flag, floor, constrained):
    N = len(best.envelope) - 1
    K = paths.keys.shape[1]
    F = np.zeros((K + 1, K + 2), np.int64)
    curve = np.zeros((K * K + 1, 2))
    depth = 64 * K + 8
    slo, shi = np.zeros((depth, K), np.int64), np.zeros((depth, K), np.int64)
    for p in range(start, stop):
        early, path, paid = paths.early[p], paths.keys[p], paths.paid[p]
        for k in range(early):
            slo[0, k], shi[0, k] = 0, keys.levels[path[k]] - 1
        top = 1
        while top > 0:
            top -= 1
            lo, hi = slo[top].copy(), shi[top].copy()
            _bound(keys, path, early, lo, hi, F, N)
            if flag[0]:
                _curve(F, early + 1, paid, curve, best.envelope, floor, 1)
                continue
            if _curve(F, early + 1, paid, curve, best.envelope, floor, 0):
                continue
            if constrained and not _feasible(keys, limits, p, path, early, lo, hi, N):
                continue
            widest, width = -1, 0
            for k in range(early):
                if hi[k] - lo[k] > width:
                    widest, width = k, hi[k] - lo[k]
            if widest < 0:
                e, c = 0, 0.0
                for f in range(early + 1):
                    right = F[f, f]
                    total = 0
                    for g in range(f, early + 2):
                        total += F[f, g]
                    e += total - right
                    c += total * paid[f]
                if c < best.envelope[e]:
                    best.cost[e], best.path[e] = c, first + p
                    best.levels[e, :early] = lo[:early]
                    for more in range(e, N + 1):
                        if best.envelope[more] <= c:
                            break
                        best.envelope[more] = c
                continue
            mid = (lo[widest] + hi[widest]) // 2
            slo[top], shi[top] = lo, hi
            slo[top, widest] = mid + 1
            slo[top + 1], shi[top + 1] = lo, hi
            shi[top + 1, widest] = mid
            top += 2


def search_paths(
    keys: Keys,
    paths: Paths,
    limits: Limits,
    best: Incumbents,
    *,
    first: int = 0,
    threads: int | None = None,
    stop: Callable[[], bool] | None = None,
    progress: Progress = silent,
) -> Open:
    floor = np.full(len(best.envelope), np.inf)
    flag = np.zeros(1, np.uint8)
    constrained = bool(len(limits.late_share) or len(limits.at_most) or len(limits.need))
    for start in range(0, len(paths.early), 64):
        if stop is not None and stop():
            flag[0] = 1
        _search(keys, paths, limits, best, first, start, min(start + 64, len(paths.early)), flag, floor, constrained)
    return Open(floor)
