"""Bitsets over samples: 64 samples a word, intersections and counts compiled by numba.

Sample n is bit n % 64 of word n // 64; the bits beyond the last sample are 0.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Bits = NDArray[np.uint64]


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


@numba.njit(cache=True)
def count_both(a: Bits, b: Bits) -> int:
    """Samples that are in both sets."""
    total = np.uint64(0)
    for w in range(len(a)):
        total += popcount(a[w] & b[w])
    return int(total)


@numba.njit(cache=True)
def count_three(a: Bits, b: Bits, c: Bits) -> int:
    """Samples that are in all three sets."""
    total = np.uint64(0)
    for w in range(len(a)):
        total += popcount(a[w] & b[w] & c[w])
    return int(total)


@numba.njit(cache=True)
def divide(here: Bits, staying: Bits, wrong: Bits, hopeless: Bits) -> tuple[int, int, int]:
    """Count what becomes of samples at one exit.

    Args:
        here: Those that have arrived. [W]
        staying: Those whose score is below the exit's threshold. [W]
        wrong: Those that the exit gets wrong. [W]
        hopeless: Those that every later exit gets wrong. [W]

    Returns:
        How many go on, how many leave with a wrong answer, how many go on without hope.
    """
    on, lost, doomed = np.uint64(0), np.uint64(0), np.uint64(0)
    for w in range(len(here)):
        rest = here[w] & staying[w]
        on += popcount(rest)
        lost += popcount((here[w] ^ rest) & wrong[w])
        doomed += popcount(rest & hopeless[w])
    return int(on), int(lost), int(doomed)


@numba.njit(cache=True)
def intersect(a: Bits, b: Bits, out: Bits) -> None:
    """Write the samples that are in both sets."""
    for w in range(len(a)):
        out[w] = a[w] & b[w]
