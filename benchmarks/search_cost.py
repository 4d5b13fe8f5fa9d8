"""What a search costs: ours against what people would use instead, from the same trained network, by the same clock.

Every competitor has the same backbone, data, space and training sections, and its own way to spend the clock: plain
joint trials with Optuna's TPE, NSGA-II, GP and random search; Ray Tune with OptunaSearch and ASHA; NSGA-II on
surrogates (NACHOS); the fixed placement of shallow-deep networks with one threshold; earlyon's greedy thresholds; our
own bank with NSGA-II instead of the solver, and with an exhaustive search (MESS). The network is trained before any
clock starts.

After everything that a competitor finds, the hypervolume of its front so far is noted: policies are selected on
calibration and valued on test. What is told of each: the time it took to its own final hypervolume, the time that our
search took to reach that, and both again in training samples. Ours is charged by the clock on the wall, the others by
what their trials took (`rivals.py`). Whoever is cut off by the clock could still have gained: the ratio is that of this
clock, and a bound from below on what it would take to go on.

    python benchmarks/search_cost.py --data FOLDER [--question fashion cifar10] [--models FOLDER] [--clock 30]
        [--seeds 3] [--only NAME ...] [--budget 600] [--workers 2] [--quick]

Runs of one thread each go side by side, as many as `--workers`. Rows go to search_cost.csv, the plot to
search_cost.png. A second call adds the runs that are missing.
"""

from __future__ import annotations

import rival_tools
import rivals
from contest import Contest

CONTEST = Contest(
    name="search_cost",
    players={
        "eesearch": rivals.eesearch,
        "TPE": rivals.joint_trials("tpe"),
        "NSGA-II": rivals.joint_trials("nsga2"),
        "GP": rivals.joint_trials("gp"),
        "random": rivals.joint_trials("random"),
        "Ray Tune, ASHA": rival_tools.ray_asha,
        "NACHOS": rivals.nachos,
        "SDN": rivals.sdn_placement,
        "earlyon": rival_tools.earlyon,
        "bank, NSGA-II": rivals.bank_nsga2,
        "bank, exhaustive": rivals.exhaustive,
    },
    shares={"SDN": 0.35, "earlyon": 0.15, "bank, NSGA-II": 0.25, "bank, exhaustive": 0.1, "static": 0.1},
    questions={
        "fashion": ("search_cost_fashion.yaml", ("data",)),
        "cifar10": ("search_cost_cifar10.yaml", ("data", "models")),
        "digits": ("search_cost_digits.yaml", ()),
    },
    quick="digits",
)

if __name__ == "__main__":
    CONTEST.run(CONTEST.options(__doc__, clock=30.0, budget=600.0))
