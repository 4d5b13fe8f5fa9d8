"""Where to look first when a family is too large to search completely: beam, local search, restarts, then the rest.

Each path is still searched completely, over all its thresholds; what is heuristic is the order of the paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import numpy as np

from eesearch.solve.search import Search, Stop, floor_of_all

Path = tuple[int, ...]

BEAM = 4096
"""Most paths that a round of the beam or of the local search explores."""

RESTARTS = 8
"""Rounds of random paths, each followed by local search."""

RANDOM_PATHS = 256
"""Random paths of a restart."""


def search_anytime(search: Search, start: Callable[[], Stop], seed: int = 0) -> bool:
    """Explore the likely paths, then all others in order; False if that was cut short.

    Args:
        search: Nothing is explored yet.
        start: Starts the clock that says when to stop. The paths of one stop are explored before, so that an answer
            holds the backbone at least, and nobody waits for a compiler on the clock.
        seed: Of the random restarts.
    """
    generator = np.random.default_rng(seed)
    explored: set[Path] = set()
    blocks = search.question.tree.blocks()
    static = next(blocks)
    search.explore(static)
    explored.update(map(tuple, static.tolist()))
    search.stop = start()
    done = _climb(search, explored)
    for _ in range(RESTARTS):
        if len(explored) == search.total:
            break
        random = (_random_path(search, generator) for _ in range(RANDOM_PATHS))
        done = done and _explore(search, explored, random) and _climb(search, explored)
    for block in blocks:
        rest = [number for number, path in enumerate(map(tuple, block.tolist())) if path not in explored]
        if not done or not search.explore(block[rest]):
            _lower_floor(search, begun=done and search.all_begun and next(blocks, None) is None)
            return False
    return True


def search_exactly(search: Search, start: Callable[[], Stop]) -> bool:
    """Explore all paths, those with fewer stops first; False if that was cut short.

    Args:
        search: Nothing is explored yet.
        start: As for `search_anytime`.
    """
    blocks = search.question.tree.blocks()
    search.explore(next(blocks))
    search.stop = start()
    for block in blocks:
        if not search.explore(block):
            _lower_floor(search, begun=search.all_begun and next(blocks, None) is None)
            return False
    return True


def _lower_floor(search: Search, *, begun: bool) -> None:
    """Where there are paths that were not even begun, nothing is known but what no policy can beat."""
    if not begun:
        np.minimum(search.floor, floor_of_all(search.question), out=search.floor)


def _climb(search: Search, explored: set[Path]) -> bool:
    """Explore the neighbours of all paths on the front until they bring nothing new; False if cut short."""
    while True:
        before = len(explored)
        front = {tuple(rows) for rows, _ in search.found()}
        if not _explore(search, explored, (near for path in sorted(front) for near in _neighbours(search, path))):
            return False
        if len(explored) == before:
            return True


def _explore(search: Search, explored: set[Path], paths: Iterable[Path]) -> bool:
    """Explore those that are new and allowed, at most a beam of them; False if cut short."""
    new: dict[Path, None] = {}
    for path in paths:
        if path not in explored and search.question.tree.allows(path):
            new[path] = None
        if len(new) == BEAM:
            break
    for _, group in groupby(sorted(new, key=lambda path: (len(path), path)), key=len):
        same = list(group)
        if not search.explore(np.array(same, np.int64)):
            return False
        explored.update(same)
    return True


def _neighbours(search: Search, path: Path) -> Iterator[Path]:
    """Paths with one stop more, one less, or one replaced."""
    rows = range(len(search.question.tree.on_cut))
    near: list[Path] = [(*path[:k], row, *path[k:]) for k in range(len(path) + 1) for row in rows]
    near += [(*path[:k], *path[k + 1 :]) for k in range(len(path))]
    near += [(*path[:k], row, *path[k + 1 :]) for k in range(len(path)) for row in rows]
    return iter(near)


def _random_path(search: Search, generator: np.random.Generator) -> Path:
    tree = search.question.tree
    path: Path = (int(generator.choice(tree.first)),)
    for _ in range(int(generator.integers(tree.longest))):
        nexts = tree.after(path)
        if not nexts:
            break
        path = (*path, int(generator.choice(nexts)))
    return path
