"""Bitsets over samples: 64 samples a word, intersections and counts compiled by numba.

Sample n is bit n % 64 of word n // 64; the bits beyond the last sample are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
Counts = NDArray[np.int64]
Group = tuple[Any, Any, Any]
"""A group of samples: its number, its first word, the one behind it."""

Function = TypeVar("Function", bound=Callable[..., Any])


OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def compiled(function: Function) -> Function:
    """Compile once, and keep it on disk; it runs beside other threads."""
    return cast(Function, numba.njit(**OPTIONS)(function))


def inner(function: Function) -> Function:
    """The same for what only compiled code calls: without its entry from Python it compiles in half the time."""
    return cast(Function, numba.njit(**(OPTIONS | {"no_cpython_wrapper": True}))(function))


def pack(members: NDArray[np.bool_]) -> Bits:
    """Bitsets of boolean rows. [..., N] -> [..., ceil(N / 64)]"""
    spare = -members.shape[-1] % 64
    padded = np.pad(members, [(0, 0)] * (members.ndim - 1) + [(0, spare)])
    octets = np.packbits(padded, axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view("<u8").astype(np.uint64)


def _popcount(typing_context: Any, word: Any) -> Any:
    """Number of bits set in one word: a single instruction, which numba has no name for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


popcount: Any = intrinsic(_popcount)


@compiled
def count_both(a: Bits, b: Bits) -> int:
    """Samples that are in both sets."""
    total = np.uint64(0)
    for w in range(len(a)):
        total += popcount(a[w] & b[w])
    return int(total)


@compiled
def intersect(a: Bits, b: Bits, out: Bits) -> None:
    """Write the samples that are in both sets."""
    for w in range(len(a)):
        out[w] = a[w] & b[w]


@compiled
def part(here: Bits, leaving: Bits, right: Bits, on: Bits) -> tuple[int, int]:
    """Part those that leave from those that go on, and count.

    Args:
        here: Those that have arrived. [W]
        leaving: Those whose score reaches the stop's threshold. [W]
        right: Those that the stop gets right. [W]
        on: Where those that go on are written. [W]

    Returns:
        How many leave, and how many of them with a wrong answer.
    """
    gone, lost = np.uint64(0), np.uint64(0)
    for w in range(len(here)):
        out = here[w] & leaving[w]
        on[w] = here[w] & ~leaving[w]
        gone += popcount(out)
        lost += popcount(out & ~right[w])
    return int(gone), int(lost)


@compiled
def count_each(here: Bits, first: Bits, second: Bits, counts: Counts) -> None:
    """Count the samples that are in a set, and in each of two lists of sets.

    Args:
        here: [W]
        first: [L, W]
        second: [L, W]
        counts: Where they are written. [L, 2]
    """
    for level in range(len(counts)):
        a, b = np.uint64(0), np.uint64(0)
        for w in range(len(here)):
            a += popcount(here[w] & first[level, w])
            b += popcount(here[w] & second[level, w])
        counts[level, 0], counts[level, 1] = a, b


@inner
def meet(may: Any, lenient: Any, strict: Any, right: Any, before: tuple[Any, Any]) -> tuple[Any, Any, Any]:
    """What one stop adds, for one word of samples.

    Args:
        may: Samples that may come so far.
        lenient: Those that would leave at the lowest threshold.
        strict: Those that would leave at the highest threshold.
        right: Those that the stop gets right.
        before: Those that may leave at a stop before (seen), and at one that gets them right (hit).

    Returns:
        `may`, `seen` and `hit` after this stop.
    """
    seen, hit = before
    leaving = may & lenient
    return may & ~strict, seen | leaving, hit | (leaving & right)


# The next three functions count the same and differ only in how many stops they are written for. The two unrolled ones
# keep all counters in registers and let the compiler use vector instructions: they are four times as fast as the loop.
#
# `rows` are the first words of bitsets in the flattened arrays: the lenient and the strict end of each thresholded
# stop, then the right answers of every stop. Counted are the words of `group`: its number g, its
# first word and the one behind it. `counts[g, j + 1, k + 1]`, j <= k, becomes the number of samples that may leave at a
# stop up to j and are right at one up to k; `counts[g, S + 1, j]` of those that may leave at a stop up to j, whether
# right or not (but for the last stop, where everybody may).


@compiled
def overlaps_of_4(leaves: Bits, right: Bits, rows: Bits, group: Group, counts: Counts) -> None:
    """Count possible stops and possible right stops, jointly, for three thresholded stops and a last one."""
    (number, begin, end), leaves, right = group, leaves.reshape(-1), right.reshape(-1)
    both, seen = counts[number], counts[number, counts.shape[1] - 1]
    a0, a1, a2, z0, z1, z2 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    r0, r1, r2, r3 = rows[6], rows[7], rows[8], rows[9]
    zero = np.uint64(0)
    n0, n1, n2, b00, b01, b02, b03 = zero, zero, zero, zero, zero, zero, zero
    b11, b12, b13, b22, b23, b33 = zero, zero, zero, zero, zero, zero
    for word in range(begin, end):
        w = np.uint64(word)
        may, s0, h0 = meet(~zero, leaves[a0 + w], leaves[z0 + w], right[r0 + w], (zero, zero))
        may, s1, h1 = meet(may, leaves[a1 + w], leaves[z1 + w], right[r1 + w], (s0, h0))
        may, s2, h2 = meet(may, leaves[a2 + w], leaves[z2 + w], right[r2 + w], (s1, h1))
        h3 = h2 | (may & right[r3 + w])
        n0 += popcount(s0)
        n1 += popcount(s1)
        n2 += popcount(s2)
        b00 += popcount(h0)
        b01 += popcount(s0 & h1)
        b02 += popcount(s0 & h2)
        b03 += popcount(s0 & h3)
        b11 += popcount(h1)
        b12 += popcount(s1 & h2)
        b13 += popcount(s1 & h3)
        b22 += popcount(h2)
        b23 += popcount(s2 & h3)
        b33 += popcount(h3)
    seen[0], seen[1], seen[2] = n0, n1, n2
    both[1, 1], both[1, 2], both[1, 3], both[1, 4] = b00, b01, b02, b03
    both[2, 2], both[2, 3], both[2, 4], both[3, 3], both[3, 4], both[4, 4] = b11, b12, b13, b22, b23, b33


@compiled
def overlaps_of_5(leaves: Bits, right: Bits, rows: Bits, group: Group, counts: Counts) -> None:
    """Count possible stops and possible right stops, jointly, for four thresholded stops and a last one."""
    (number, begin, end), leaves, right = group, leaves.reshape(-1), right.reshape(-1)
    both, seen = counts[number], counts[number, counts.shape[1] - 1]
    a0, a1, a2, a3, z0, z1, z2, z3 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
    r0, r1, r2, r3, r4 = rows[8], rows[9], rows[10], rows[11], rows[12]
    zero = np.uint64(0)
    n0, n1, n2, n3, b00, b01, b02, b03, b04 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    b11, b12, b13, b14, b22, b23, b24, b33, b34, b44 = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for word in range(begin, end):
        w = np.uint64(word)
        may, s0, h0 = meet(~zero, leaves[a0 + w], leaves[z0 + w], right[r0 + w], (zero, zero))
        may, s1, h1 = meet(may, leaves[a1 + w], leaves[z1 + w], right[r1 + w], (s0, h0))
        may, s2, h2 = meet(may, leaves[a2 + w], leaves[z2 + w], right[r2 + w], (s1, h1))
        may, s3, h3 = meet(may, leaves[a3 + w], leaves[z3 + w], right[r3 + w], (s2, h2))
        h4 = h3 | (may & right[r4 + w])
        n0 += popcount(s0)
        n1 += popcount(s1)
        n2 += popcount(s2)
        n3 += popcount(s3)
        b00 += popcount(h0)
        b01 += popcount(s0 & h1)
        b02 += popcount(s0 & h2)
        b03 += popcount(s0 & h3)
        b04 += popcount(s0 & h4)
        b11 += popcount(h1)
        b12 += popcount(s1 & h2)
        b13 += popcount(s1 & h3)
        b14 += popcount(s1 & h4)
        b22 += popcount(h2)
        b23 += popcount(s2 & h3)
        b24 += popcount(s2 & h4)
        b33 += popcount(h3)
        b34 += popcount(s3 & h4)
        b44 += popcount(h4)
    seen[0], seen[1], seen[2], seen[3] = n0, n1, n2, n3
    both[1, 1], both[1, 2], both[1, 3], both[1, 4], both[1, 5] = b00, b01, b02, b03, b04
    both[2, 2], both[2, 3], both[2, 4], both[2, 5], both[3, 3] = b11, b12, b13, b14, b22
    both[3, 4], both[3, 5], both[4, 4], both[4, 5], both[5, 5] = b23, b24, b33, b34, b44


@compiled
def overlaps_of_any(leaves: Bits, right: Bits, rows: Bits, group: Group, counts: Counts) -> None:
    """Count possible stops and possible right stops, jointly, for any number of stops.

    Args:
        leaves: [Q, L, W]
        right: [Q, W]
        rows: See above; after them, room for a word per thresholded stop. [4 S - 3]
        group: See above.
        counts: See above; the rest stays 0. [G, S + 2, S + 1]
    """
    (number, begin, end), leaves, right = group, leaves.reshape(-1), right.reshape(-1)
    both, seen = counts[number], counts[number, counts.shape[1] - 1]
    early = counts.shape[2] - 2
    both[:] = 0
    for word in range(begin, end):
        w = np.uint64(word)
        may, now, hit = ~np.uint64(0), np.uint64(0), np.uint64(0)
        for k in range(early):
            lenient, strict = leaves[rows[k] + w], leaves[rows[early + k] + w]
            may, now, hit = meet(may, lenient, strict, right[rows[2 * early + k] + w], (now, hit))
            rows[3 * early + 1 + k] = now
            seen[k] += np.int64(popcount(now))
            for j in range(k + 1):
                both[j + 1, k + 1] += np.int64(popcount(rows[3 * early + 1 + j] & hit))
        hit |= may & right[rows[3 * early] + w]
        for j in range(early):
            both[j + 1, early + 1] += np.int64(popcount(rows[3 * early + 1 + j] & hit))
        both[early + 1, early + 1] += np.int64(popcount(hit))
