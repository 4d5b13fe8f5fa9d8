"""Does a front keep its promises on new samples? Picks corrected for optimism, and risk control, on real tables.

A table of 10,000 samples is taken for the whole population, so that the truth is known; calibration sets are drawn from
it with replacement. Two populations: a ResNet-56 on CIFAR-10 with exits, and ResNet-20, 32, 44 and 56 as a cascade.

promises: of each calibration set, the cheapest policy within 0, 0.5 and 1 % as the front says (naive), and the cheapest
one after its optimism is taken off (corrected); the drop that is promised against the one on the population.

control: one half of each set selects, the other certifies that at most 0.5 or 1 % are lost, at confidence 0.9. Every
test has the same candidates, orders them by its own estimated p-values, and stops at the first failure:
    exact       the exact unconditional paired test (`eesearch.solve.trust`)
    losses      a binomial on the samples that only the backbone gets right; what is gained does not count
    hoeffding   Hoeffding-Bentkus (Bates et al. 2021) on the difference of correctness, rescaled from -1..1 to 0..1
    mcnemar     McNemar's test, conditional on the number m of samples that differ: its binomial at the share of
                losses (1 + slack / psi) / 2, the largest p-value over the Clopper-Pearson interval of psi = m / n

    python benchmarks/trust.py --run RUN --data cifar10.npz --models DIR [--quick] [--promises 300] [--controls 500]
                               [--out DIR]

RUN is a run of the study cifar10_resnet56 (its tables of calibration and test are joined), DIR holds the weights
cifar10_resnet{20,32,44,56}.safetensors; the networks' logits are kept in cascades.npz. Rows go to trust-promises.csv
and trust-control.csv, the plot to trust.png. A second call adds what is missing.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil, e, exp, log
from pathlib import Path
from typing import cast

import numba
import numpy as np
import pandas as pd
import scipy
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv
from scipy.stats import binom

from eesearch.core.costs import DeviceProfile, StageCosts, stage_costs
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.front import Evaluation, Front
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy, Scoring
from eesearch.core.store import Store
from eesearch.core.tables import ExitTable
from eesearch.exits.routing import route, score_table
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.optimism import fold_points, optimism
from eesearch.solve.trust import GAMMA, order_of_tests, p_value, passed
from eesearch.training.fits import stratified_folds

SAMPLES = 5000
"""In a calibration set."""

TARGETS, SLACKS, DELTA, FOLDS = (0.0, 0.005, 0.01), (0.005, 0.01), 0.1, 5
HEAD, CUTS = "linear-mixed2", 8
"""Exits of the ResNet-56: this head on the last so many cuts; earlier ones are of no use near the backbone."""

DEPTHS = (20, 32, 44, 56)
FAMILIES = {"resnet56": Family(max_exits=2, levels=12), "cascades": Family(max_exits=3, levels=24)}
"""Policies of either population; their thresholds are then refined."""

EFFORT = Effort(threads=1)
PICKS = {"naive": "#d55e00", "corrected": "#0072b2"}
POPULATIONS = tuple(FAMILIES)


@dataclass(frozen=True, eq=False)
class Population:
    """All samples that there are: what each exit says about them, and what each exit costs."""

    name: str
    table: ExitTable
    costs: StageCosts

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """[E, N]"""
        return score_table(self.table, Scoring())

    def draw(self, part: str, number: int) -> NDArray[np.int64]:
        """The samples of a calibration set. [SAMPLES]"""
        kind = ("promises", "control").index(part)
        rng = np.random.default_rng([POPULATIONS.index(self.name), kind, number])
        return rng.integers(len(self.table.labels), size=SAMPLES)

    def some(self, samples: NDArray[np.int64]) -> ExitTable:
        """The table of these samples."""
        return ExitTable(self.table.logits[:, samples], self.table.labels[samples], self.table.exits, "cal", "")

    def front(self, samples: NDArray[np.int64]) -> Front:
        """What the solver finds on them."""
        return solve_front(self.some(samples), self.costs, family=FAMILIES[self.name], effort=EFFORT)

    def play(self, policy: Policy) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Who is answered rightly, and at what cost relative to the backbone's. Both [N]"""
        rows = [self.table.row(exit_id) for exit_id in policy.exits]
        stop = route(self.scores[rows], policy.thresholds)
        paid = np.array([self.costs.backbone]) if is_backbone(policy) else self.costs.cumulative(policy.exits)
        return self.table.correct[rows][stop, np.arange(len(stop))], (paid / self.costs.backbone)[stop]

    def truth(self, policy: Policy) -> dict[str, float]:
        """Drop and relative cost on the population."""
        right, cost = self.play(policy)
        return {"true": self.compare(right).drop, "cost": float(cost.mean())}

    def compare(self, right: NDArray[np.bool_], samples: NDArray[np.int64] | slice = slice(None)) -> Paired:
        """A policy and the backbone on some samples."""
        return Paired.of(right[samples], self.table.correct[-1][samples])


def is_backbone(policy: Policy) -> bool:
    """Whether everybody leaves at the own classifier, and nothing was chosen."""
    return len(policy.stops) == 1 and policy.exits[0].is_output


def resnet56(run: Path) -> Population:
    """One network with exits, from the tables of its run."""
    (found,) = (run / "store" / "table").glob("*-cal.safetensors")
    entries = [Store(run / "store").get("table", found.name.split("-")[0] + f"-{split}") for split in ("cal", "test")]
    parts = [ExitTable.from_arrays(*entry) for entry in entries if entry is not None]
    logits = np.concatenate([part.logits for part in parts], axis=1)
    table = ExitTable(logits, np.concatenate([part.labels for part in parts]), parts[0].exits, "cal", "")
    exits = [exit_id for exit_id in table.exits if exit_id.head == HEAD or exit_id.is_output][-CUTS - 1 :]
    profile = DeviceProfile.model_validate_json((run / "profiles" / "macs.json").read_text())
    return Population("resnet56", table.select(exits), stage_costs(profile, exits, "max_prob", "macs"))


def cascades(data: Path, models: Path, kept: Path) -> Population:
    """Four networks; who goes on from one starts the next from the input. The last is the backbone."""
    if not kept.exists():
        _run_networks(data, models, kept)
    with np.load(kept) as arrays:
        logits, labels, macs = arrays["logits"], arrays["labels"], arrays["macs"]
    names = [f"resnet{depth}" for depth in DEPTHS]
    exits = tuple(ExitId(network=n, cut=OUTPUT if n == names[-1] else n, head=OWN) for n in names)
    forbidden = np.tri(len(names) + 1, len(names), -1, dtype=bool)  # back, or to the same
    step = np.where(forbidden, np.inf, macs)
    return Population(
        "cascades", ExitTable(logits, labels, exits, "cal", ""), StageCosts(step, exits, "macs", macs[-1])
    )


def _run_networks(data: Path, models: Path, kept: Path) -> None:
    import torch

    from eesearch.costs.macs import count_macs
    from eesearch.nets.sources import load_weights
    from eesearch.nets.zoo import cifar_resnet

    with np.load(data) as arrays:
        pixels, labels = arrays["x_test"], arrays["y_test"].astype(np.int64)
    mean, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    logits, macs = [], []
    for depth in DEPTHS:
        network = cifar_resnet(depth=depth).eval()
        load_weights(network, models / f"cifar10_resnet{depth}.safetensors")
        with torch.inference_mode():
            blocks = [(torch.from_numpy(part) / 255.0 - mean) / spread for part in np.array_split(pixels, 20)]
            logits.append(torch.cat([network(block) for block in blocks]).numpy())
            macs.append(count_macs(network, (blocks[0][:1],)))
        print(f"ResNet-{depth}: {(logits[-1].argmax(-1) == labels).mean():.2%}, {macs[-1] / 1e6:.1f} million MACs")
    np.savez(kept, logits=np.stack(logits), labels=labels, macs=np.array(macs))


def promises(population: Population, number: int) -> Iterator[dict[str, object]]:
    """What is promised of the picks from one calibration set, and what is true: a row per target and pick."""
    table = population.some(population.draw("promises", number))
    costs, family = [population.costs], FAMILIES[population.name]
    front = solve_front(table, costs, family=family, effort=EFFORT)
    fold = stratified_folds(table.labels, FOLDS, seed=number)
    own = table.correct[-1]
    found = fold_points(table, costs, Scoring(), own, fold=fold, family=family, effort=EFFORT)
    drops, gaps = zip(*optimism([found]), strict=True)
    backbone = front.backbone

    def corrected(point: Evaluation) -> float:
        drop = backbone.accuracy - point.accuracy
        return 0.0 if is_backbone(point.policy) else drop + float(np.interp(drop, drops, gaps))

    for target in TARGETS:
        lost = {point.policy: (backbone.accuracy - point.accuracy, corrected(point)) for point in front.points}
        kept = (point for point in front.points if max(lost[point.policy]) <= target + 1e-12)  # as DeviceAnswer.within
        for pick, point in (("naive", front.within(target)), ("corrected", next(kept, None))):
            point = point or backbone
            drop = backbone.accuracy - point.accuracy
            promised = drop if pick == "naive" else corrected(point)
            row = {"target": target, "pick": pick, "calibration": drop, "promised": promised}
            yield row | {"backbone": is_backbone(point.policy)} | population.truth(point.policy)


@cache
def exact(lost: int, gained: int, samples: int, slack: float) -> float:
    """Ours."""
    return p_value(Paired(lost=lost, gained=gained, samples=samples), slack)


def losses(lost: int, gained: int, samples: int, slack: float) -> float:
    """Binomial on losses alone: b >= b - c, so that b < slack is enough."""
    return float(binom.cdf(lost, samples, slack))


def hoeffding(lost: int, gained: int, samples: int, slack: float) -> float:
    """Hoeffding-Bentkus p-value of a mean in 0..1 (Bates et al., JACM 2021); each sample is 0, 1/2 or 1."""
    mean, bound = (1.0 + (lost - gained) / samples) / 2.0, (1.0 + slack) / 2.0
    rates = [(min(mean, bound), bound), (max(1.0 - mean, 1.0 - bound), 1.0 - bound)]
    tail = exp(-samples * sum(a * log(a / b) for a, b in rates if a > 0.0))
    return float(min(1.0, tail, e * binom.cdf(ceil(samples * mean), samples, bound)))


@cache
def mcnemar(lost: int, gained: int, samples: int, slack: float) -> float:
    """Conditional on how many differ, at the worst psi of its interval."""
    differ = lost + gained
    high = betaincinv(differ + 1, samples - differ, 1.0 - GAMMA / 2.0) if differ < samples else 1.0
    share = (1.0 + slack / max(high, slack)) / 2.0  # of losses; the larger psi, the smaller it is and the larger p
    return float(min(1.0, GAMMA + bdtr(float(lost), differ, share))) if differ else 1.0


TESTS: dict[str, Callable[[int, int, int, float], float]]
TESTS = {"exact": exact, "losses": losses, "hoeffding": hoeffding, "mcnemar": mcnemar}
COLOURS = dict(zip(TESTS, ("#0072b2", "#d55e00", "#999999", "#009e73"), strict=True))


def control(population: Population, number: int) -> Iterator[dict[str, object]]:
    """What each test certifies from one calibration set: a row per slack and test."""
    samples = population.draw("control", number)
    selection, certification = np.array_split(samples, 2)
    points = population.front(selection).points
    played = [population.play(point.policy) for point in points]
    cost = np.array([paid[selection].mean() for _, paid in played])
    counts = [[population.compare(right, part) for right, _ in played] for part in (selection, certification)]
    for slack in SLACKS:
        for name, test in TESTS.items():
            estimated = np.array([test(c.lost, c.gained, c.samples, slack) for c in counts[0]])
            order = order_of_tests(estimated, cost)
            tested = [counts[1][i] for i in order]
            certified = passed([test(c.lost, c.gained, c.samples, slack) for c in tested], DELTA)
            backbone = not certified or is_backbone(points[order[certified - 1]].policy)
            truth = {"true": 0.0, "cost": 1.0} if backbone else population.truth(points[order[certified - 1]].policy)
            row = {"slack": slack, "test": name, "tested": len(order), "passed": certified, "backbone": backbone}
            yield row | {"violated": truth["true"] > slack + 1e-12} | truth


PARTS: dict[str, Callable[[Population, int], Iterator[dict[str, object]]]]
PARTS = {"promises": promises, "control": control}


def measure(part: str, population: Population, draws: int, rows_file: Path) -> pd.DataFrame:
    """All rows of a part; those that are missing are made, and written draw by draw."""
    rows = pd.read_csv(rows_file) if rows_file.exists() else pd.DataFrame(columns=["population", "draw"])
    done = set(rows.loc[rows["population"] == population.name, "draw"])
    for number in sorted(set(range(draws)) - done):
        start = time.process_time()
        key = {"population": population.name, "draw": number}
        new = pd.DataFrame([key | row for row in PARTS[part](population, number)])
        new = new.assign(seconds=time.process_time() - start, **_facts(population))
        new.to_csv(rows_file, mode="a", header=not rows_file.exists(), index=False)
    rows = pd.read_csv(rows_file)
    rows = rows[(rows["population"] == population.name) & (rows["draw"] < draws)]
    print(f"{part} on {population.name}: {rows['seconds'].median():.2f} processor seconds a draw", flush=True)
    return rows


def promised_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per population, target and pick, in points: what is true beyond what was promised; and what it costs."""
    told = []
    for key, group in rows.groupby(["population", "target", "pick"], sort=False):
        population, target, pick = cast("tuple[str, float, str]", key)
        naive = rows[(rows["population"] == population) & (rows["target"] == target) & (rows["pick"] == "naive")]
        beyond = 100.0 * (group["true"] - group["promised"])
        told.append(
            {
                "population": population,
                "target": f"{target:.1%}",
                "pick": pick,
                "draws": len(group),
                "promised": 100.0 * group["promised"].mean(),
                "true": 100.0 * group["true"].mean(),
                "true - promised": beyond.mean(),
                "+-": beyond.std() / len(group) ** 0.5,
                "above target": (group["true"] > target + 1e-12).mean(),
                "cost": group["cost"].mean(),
                "of naive": group["cost"].mean() / naive["cost"].mean(),
                "backbone": group["backbone"].mean(),
            }
        )
    return pd.DataFrame(told).round(4)


def control_summary(rows: pd.DataFrame, best: dict[tuple[str, float], float]) -> pd.DataFrame:
    """Per population, slack and test: violations, against the most that 10 % come to, and cost."""
    told = []
    for key, group in rows.groupby(["population", "slack", "test"], sort=False):
        population, slack, test = cast("tuple[str, float, str]", key)
        told.append(
            {
                "population": population,
                "at most": f"{slack:.1%}",
                "test": test,
                "draws": len(group),
                "violations": group["violated"].mean(),
                "99 % limit": binom.ppf(0.99, len(group), DELTA) / len(group),
                "cost": group["cost"].mean(),
                "best possible": best[population, slack],
                "backbone": group["backbone"].mean(),
                "true drop": 100.0 * group["true"].mean(),
            }
        )
    return pd.DataFrame(told).round(4)


def draw(promised: pd.DataFrame, controlled: pd.DataFrame, path: Path) -> None:
    """Left: true against promised drop. Right: violations against cost of each test."""
    names = [name for name in POPULATIONS if name in set(promised["population"])]
    figure = Figure(figsize=(10.0, 4.3 * len(names)), layout="constrained")
    for left, right, name in zip(*np.array(figure.subplots(len(names), 2, squeeze=False)).T, names, strict=True):
        for pick, rows in promised[promised["population"] == name].groupby("pick", sort=False):
            aside = 100 * rows["promised"] + (0.02 if pick == "corrected" else -0.02)
            left.plot(aside, 100 * rows["true"], ".", ms=4, alpha=0.4, color=PICKS[str(pick)])
            mean = 100 * rows.groupby("target")[["promised", "true"]].mean()
            left.plot(mean["promised"], mean["true"], "D", ms=7, mec="white", color=PICKS[str(pick)], label=f"{pick}")
        left.axline((0, 0), slope=1, color="#bbbbbb", lw=0.8, zorder=0)
        title = f"{name}: picks (dots, 0.02 aside), their means"
        left.set(xlabel="promised drop (points)", ylabel="true drop (points)", title=title)
        left.legend(frameon=False, loc="upper left")
        rows = controlled[controlled["population"] == name]
        for (test, slack), group in rows.groupby(["test", "slack"], sort=False):
            marker = "o" if slack == max(SLACKS) else "s"
            label = test if slack == max(SLACKS) else None
            values = group["cost"].mean(), 100 * group["violated"].mean()
            right.plot(*values, marker, ms=8, color=COLOURS[str(test)], label=label, clip_on=False)
        right.axhline(100 * DELTA, color="#bbbbbb", lw=0.8, zorder=0)
        title = f"{name}: at most {max(SLACKS):.1%} (circles), {min(SLACKS):.1%} (squares)"
        right.set(xlabel="mean cost / backbone's", ylabel="violations (%)", title=title, ylim=(0, None))
        right.legend(frameon=False, loc="center right")
    figure.savefig(path, dpi=150)


def _facts(population: Population) -> dict[str, str]:
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    versions |= {"numba": numba.__version__}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    family = FAMILIES[population.name]
    return {
        "family": f"{family.max_exits} of {len(population.table.exits) - 1} exits, {family.levels} levels, refined",
        "machine": f"{platform.machine()}, {numba.get_num_threads()} threads",
        "versions": told,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 and 10 calibration sets")
    parser.add_argument("--run", type=Path, help="a run of cifar10_resnet56; without it: the cascades only")
    parser.add_argument("--data", type=Path, help="cifar10.npz, and")
    parser.add_argument("--models", type=Path, help="the weights; without them: the one network only")
    parser.add_argument("--promises", type=int, default=300, help="calibration sets for the picks")
    parser.add_argument("--controls", type=int, default=500, help="calibration sets for risk control")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.quick:
        options.promises, options.controls = 4, 10
    return options


def main() -> None:
    """Read the options, make what is missing, sum up, draw."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    name = "trust-quick" if options.quick else "trust"
    populations = [resnet56(options.run)] if options.run else []
    if options.data and options.models:
        populations.append(cascades(options.data, options.models, options.out / "cascades.npz"))
    draws = {"promises": options.promises, "control": options.controls}
    parts: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
    best: dict[tuple[str, float], float] = {}
    for population in populations:
        whole = population.front(np.arange(len(population.table.labels)))
        cheapest = {slack: whole.within(slack) or whole.backbone for slack in SLACKS}
        best |= {(population.name, slack): population.truth(p.policy)["cost"] for slack, p in cheapest.items()}
        for part in PARTS:
            parts[part].append(measure(part, population, draws[part], options.out / f"{name}-{part}.csv"))
    promised, controlled = (pd.concat(parts[part]) for part in PARTS)
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(promised_summary(promised).to_string(index=False))
        print(control_summary(controlled, best).to_string(index=False))
    draw(promised, controlled, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
