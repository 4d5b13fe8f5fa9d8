"""What a large table takes: a million samples, 50 cuts with 8 heads each, streamed, packed and solved.

Logits come from a generator, block by block, and are never held together: 401 exits, 10 classes. All of it runs in a
process of its own, whose peak resident memory is noted after every phase; more than 8 GiB is an error.

    python benchmarks/solver_scale.py [--quick] [--samples 1000000] [--seconds 120] [--out benchmarks/results]

Rows go to solver_scale.csv, with hardware and versions in every row. A second call adds what is missing.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pandas as pd

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Scoring
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.stream import Block, stream_scores

CLASSES, BLOCK, LIMIT_GIB = 10, 10_000, 8.0


def main() -> None:
    """Read the options, run what is missing in a process of its own, check the peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 samples, 10 cuts with 2 heads, 10 s of solving")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=120.0, help="for each family that is not searched completely")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--child", nargs=4, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        samples, cuts, heads, seconds = options.child
        measure(int(samples), int(cuts), int(heads), seconds)
        return
    samples, cuts, heads = (20_000, 10, 2) if options.quick else (options.samples, 50, 8)
    seconds = 10.0 if options.quick else options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    rows_file = options.out / "solver_scale.csv"
    rows = pd.read_csv(rows_file) if rows_file.exists() else pd.DataFrame(columns=["samples", "exits"])
    exits = cuts * heads + 1
    if ((rows["samples"] == samples) & (rows["exits"] == exits)).any():
        print(f"{rows_file} knows this size already")
    else:
        minutes = samples * exits * 1e-6 / 60 + 2 * seconds / 60 + 0.5  # a microsecond to make and score one output
        print(f"about {minutes:.1f} minutes on 2 cores; rows go to {rows_file}")
        sizes = [str(size) for size in (samples, cuts, heads, seconds)]
        command = [sys.executable, __file__, "--child", *sizes]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout or ():
                print(line, end="", flush=True)
                new = pd.DataFrame([json.loads(line)])
                rows = pd.concat([rows, new]) if len(rows) else new
                rows.to_csv(rows_file, index=False)
        if child.returncode:
            raise SystemExit(child.returncode)
    print(rows[(rows["samples"] == samples) & (rows["exits"] == exits)].to_string(index=False))
    assert rows["peak_gib"].max() < LIMIT_GIB, f"more than {LIMIT_GIB} GiB of memory"


def measure(samples: int, cuts: int, heads: int, seconds: float) -> None:
    """All phases; a row of JSON each."""
    exits, costs = network(cuts, heads)
    facts = {
        "samples": samples,
        "exits": len(exits),
        "machine": f"{platform.machine()}, {numba.get_num_threads()} threads",
        "versions": f"python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}",
    }

    def tell(phase: str, start: float, found: str = "") -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux
        row = facts | {"phase": phase, "seconds": round(time.perf_counter() - start, 2), "peak_gib": round(peak, 3)}
        print(json.dumps(row | {"found": found}), flush=True)

    start = time.perf_counter()
    solve_front(stream_scores(blocks(100, cuts, heads), exits, Scoring()), costs, family=Family(max_exits=1, levels=2))
    tell("compilation", start)
    start = time.perf_counter()
    for _ in blocks(min(samples, 10 * BLOCK), cuts, heads):
        pass
    generating = (time.perf_counter() - start) * samples / min(samples, 10 * BLOCK)
    start = time.perf_counter()
    table = stream_scores(blocks(samples, cuts, heads), exits, Scoring())
    tell("stream", start, f"of these about {generating:.1f} s to make the logits")
    for max_exits in (1, 2):
        start = time.perf_counter()
        effort = Effort(method="exact" if max_exits == 1 else "anytime", seconds=seconds, refine=False)
        front = solve_front(table, costs, family=Family(max_exits=max_exits), effort=effort)
        tell(f"solve, {max_exits} exits, 24 levels", start, f"{len(front)} points; {front.certificate}")


def network(cuts: int, heads: int) -> tuple[tuple[ExitId, ...], StageCosts]:
    """Exits and costs: segments of one unit each, heads of 1 % to 8 % of one."""
    exits = tuple(ExitId(network="n", cut=f"cut{k}", head=f"head{h}") for k in range(cuts) for h in range(heads))
    depth = np.append(np.repeat(np.arange(cuts), heads), cuts)
    own = np.append(np.tile(0.01 * np.arange(1, heads + 1), cuts), 0.0)
    onward = np.where(depth[:, None] < depth, depth - depth[:, None] + own, np.inf)
    step = np.concatenate([(depth + 1 + own)[None], onward])
    exits = (*exits, ExitId(network="n", cut=OUTPUT, head=OWN))
    return exits, StageCosts(step, exits, "macs", float(cuts + 1))


def blocks(samples: int, cuts: int, heads: int, seed: int = 0) -> Iterator[Block]:
    """Synthetic logits [E, n, C] and labels [n]: deeper cuts and larger heads see more, all find the same samples hard.

    Every block fills the same memory.
    """
    rng = np.random.default_rng(seed)
    depth = np.append(np.repeat(np.linspace(0.0, 1.0, cuts), heads), 1.1)
    skill = (1.0 + 3.5 * depth + np.append(np.tile(np.linspace(0.0, 0.5, heads), cuts), 0.5)).astype(np.float32)
    logits = np.empty((len(skill), BLOCK, CLASSES), np.float32)
    for start in range(0, samples, BLOCK):
        n = min(BLOCK, samples - start)
        labels = rng.integers(0, CLASSES, n)
        ease = rng.gamma(2.0, 0.5, n).astype(np.float32)
        common = rng.standard_normal((n, CLASSES), np.float32)
        for exit_, strength in enumerate(skill):  # one exit at a time stays in the processor's cache
            row = logits[exit_, :n]
            rng.standard_normal(out=logits[exit_], dtype=np.float32)
            row += common
            row[np.arange(n), labels] += strength * ease
        yield logits[:, :n], labels


if __name__ == "__main__":
    main()
