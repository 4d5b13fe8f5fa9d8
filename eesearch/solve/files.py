"""The front of a network that has its exits already, from two files; without torch, from anywhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eesearch.core.costs import StageCosts
from eesearch.core.errors import DataError, PolicyError
from eesearch.core.front import Evaluation, Front
from eesearch.core.policy import Policy, Scoring
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import backbone_evaluation, evaluate, tally
from eesearch.solve.costs_file import read_costs
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.stream import ScoreTable
from eesearch.solve.table_file import Table, read_table


@dataclass(frozen=True, eq=False)
class SolvedTable:
    """The front of a table.

    Attributes:
        front: Selected on the table.
        tested: Its points on another table, if there is one; the last is the backbone.
    """

    front: Front
    tested: tuple[Evaluation, ...] = ()

    def rows(self) -> list[dict[str, int | float | str]]:
        """A row per point by rising cost, then the backbone; lists are `|`-joined, one entry per stop."""
        points = [*self.front.points, self.front.backbone]
        rows = [_row(name, point) for name, point in zip([*range(len(self.front)), "backbone"], points, strict=True)]
        for row, test in zip(rows, self.tested, strict=False):
            row |= {"accuracy_test": test.accuracy} | {f"{axis}_test": c.mean for axis, c in test.costs.items()}
        return rows

    def to_csv(self) -> str:
        """The rows; numbers in full, so that they read back as they are."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows()[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def to_json(self) -> str:
        """The certificate and the rows."""
        certificate = self.front.certificate
        known = None if certificate is None else certificate.model_dump(mode="json")
        return json.dumps({"certificate": known, "points": self.rows()}, indent=1) + "\n"


def _row(name: int | str, point: Evaluation) -> dict[str, int | float | str]:
    row: dict[str, int | float | str] = {"point": name, "errors": round(point.error * point.samples)}
    row |= {"accuracy": point.accuracy}
    for axis, cost in point.costs.items():
        row |= {axis: cost.mean, f"{axis}_p95": cost.p95, f"{axis}_worst": cost.worst}
    stops = point.policy.stops
    return row | {
        "exits": "|".join(stop.exit.cut for stop in stops),
        "heads": "|".join(stop.exit.head for stop in stops),
        "thresholds": "|".join(str(stop.threshold) for stop in stops),
        "exit_rate": "|".join(map(str, point.exit_rate)),
    }


def solve_files(
    table: Path,
    costs: Path,
    *,
    scoring: Scoring,
    family: Family,
    effort: Effort,
    test: Path | None = None,
    progress: Progress = silent,
) -> SolvedTable:
    """The front of a table from a file: `eesearch solve`.

    Args:
        table: As `read_table` reads it; policies are selected on it.
        costs: As `read_costs` reads it; the first axis is minimised.
        scoring: How policies score and answer; the default one for a table of scores.
        family: Which policies.
        effort: How they are searched.
        test: A table of the same exits over other samples, on which nothing is selected.
        progress: As for `solve_front`.

    Raises:
        DataError: a table cannot be read or is wrong, or the test table has other exits.
        CostError: the costs cannot be read, are wrong, or do not fit the table.
        PolicyError: what is asked for contradicts itself or the table.
    """
    known = read_table(table)
    if isinstance(known, ScoreTable) and (scoring.criterion, scoring.answer, scoring.fits) != ("max_prob", "own", ()):
        raise PolicyError(
            f"the scores in {table} are given",
            got=f"criterion '{scoring.criterion}' and answer '{scoring.answer}' to make others",
            do="Give logits and labels instead, or leave criterion and answer out.",
        )
    prices = read_costs(costs, known)
    unseen = None if test is None else read_table(test, split="test")
    if unseen is not None and (unseen.exits != known.exits or type(unseen) is not type(known)):
        raise DataError(
            f"{test} is about other exits than {table}",
            got=[f"{e.cut}:{e.head}" for e in unseen.exits],
            expected=[f"{e.cut}:{e.head}" for e in known.exits],
        )
    if isinstance(known, ExitTable) and isinstance(unseen, ExitTable):
        classes = [each.logits.shape[-1] for each in (known, unseen)]
        if classes[0] != classes[1]:
            raise DataError(f"{test} is about other classes than {table}", got=classes[1], expected=classes[0])
    front = solve_front(known, prices, scoring=scoring, family=family, effort=effort, progress=progress)
    if unseen is None:
        return SolvedTable(front)
    points = [_tested(point.policy, unseen, prices, scoring) for point in front.points]
    return SolvedTable(front, (*points, backbone_evaluation(unseen, prices, unseen.exits[-1])))


def _tested(policy: Policy, table: Table, costs: Sequence[StageCosts], scoring: Scoring) -> Evaluation:
    """A policy on another table."""
    if isinstance(table, ExitTable):
        return evaluate(policy, table, costs, scoring.fits)
    rows = [table.row(e) for e in policy.exits]
    return tally(policy, table.scores[rows], table.correct[rows], costs)
