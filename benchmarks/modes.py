"""What the bank and the solver are worth: `mode: bank` against `mode: joint-trials` on the same study and clock.

Both search scikit-learn's digits for counted MACs, each with a backbone trained alike. For each seed the two modes take
turns. After every trial the test hypervolume of the front so far (selected on calibration) is written with the
seconds that the trials took until then (training, tables, solving). The hypervolume is that of a trial's value: the
share of the rectangle (0, 0) .. (backbone's error + 5 points, backbone's cost) that the front dominates.

    python benchmarks/modes.py [--quick] [--budget 10m] [--out benchmarks/results]

Raw rows go to modes.csv, the plot to modes.png. A second call adds the seeds that are missing.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from eesearch.api import search_study
from eesearch.core.front import Front
from eesearch.study.files import load_study
from eesearch.study.question import Study
from eesearch.study.run import Run

TRIALS = {"bank": 8, "joint-trials": 40}
COLUMNS = ["seed", "mode", "trial", "seconds", "hypervolume_test", "value_cal"]


def main() -> None:
    """Read the options, run what is missing, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, a quarter of the trials")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=20.0, help="minutes in all; no seed is begun after that")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows_file = options.out / ("modes-quick.csv" if options.quick else "modes.csv")
    print(f"about {1 if options.quick else 4 * options.seeds} minutes on 2 cores; rows go to {rows_file}")
    rows = pd.read_csv(rows_file) if rows_file.exists() else pd.DataFrame(columns=COLUMNS)
    end = time.monotonic() + 60 * options.budget
    for seed in range(1 if options.quick else options.seeds):
        for mode, trials in TRIALS.items():
            done = ((rows["seed"] == seed) & (rows["mode"] == mode)).any()
            if done or time.monotonic() > end:
                continue
            new = measure(mode, seed, max(2, trials // 4) if options.quick else trials)
            rows = pd.concat([rows, new]) if len(rows) else new
            rows.to_csv(rows_file, index=False)
    print(rows.groupby(["seed", "mode"])[["seconds", "hypervolume_test"]].last().to_string())
    draw(rows, rows_file.with_suffix(".png"))


def measure(mode: str, seed: int, trials: int) -> pd.DataFrame:
    """One search; a row per trial. The backbone is trained before the clock starts, for both modes alike."""
    fields = load_study("digits").model_dump(mode="json")
    fields |= {"mode": mode, "devices": ["macs"], "seed": seed, "budget": {"trials": 1}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        rows = []
        for total in range(1, trials + 1):  # continuing a study trains nothing twice
            fields["budget"] = {"trials": total}
            rows.append(row(search_study(Study.model_validate(fields), path), mode))
    return pd.DataFrame([{"seed": seed} | r for r in rows], columns=COLUMNS)


def row(run: Run, mode: str) -> dict[str, object]:
    """Test hypervolume and time of the trials so far; the time is that of the trials, the bank's included."""
    device = run.device()
    test = Front([p.test for p in device.points], backbone=device.backbone.test, axis=device.axis, device=device.device)
    trials = run.answers.trials
    return {
        "mode": mode,
        "trial": len(trials),
        "seconds": sum(t.seconds for t in trials),
        "hypervolume_test": test.hypervolume(),
        "value_cal": device.front().hypervolume(),
    }


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Hypervolume against time, a line per seed and mode."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for (mode, _), group in rows.groupby(["mode", "seed"]):
        colour = "#0072b2" if mode == "bank" else "#d55e00"
        known = mode in axes.get_legend_handles_labels()[1]
        axes.plot(group["seconds"], group["hypervolume_test"], "o-", ms=3, color=colour, label=None if known else mode)
    axes.set(xscale="log", xlabel="seconds of trials", ylabel="hypervolume on test")
    axes.set_title(f"digits, MACs; {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
