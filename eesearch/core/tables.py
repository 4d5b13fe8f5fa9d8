"""`ExitTable`: what every exit of a trained design says about every sample of a split."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import ExitId, place_of, read_exits, rows_of
from eesearch.core.errors import PolicyError
from eesearch.core.weights import Weights, mean_right


@dataclass(frozen=True, eq=False)
class ExitTable:
    """Per-sample outputs of all exits of one or more networks on one split.

    Attributes:
        logits: float32 [E, N, C]; rows in the order of the cuts, each network's own classifier its last row.
        labels: int64 [N]
        exits: Which exit each row is. [E]
        split: `train`, `cal` or `test`.
        samples: Content hash of the split's inputs and labels; tables with equal hashes may be joined.
        weights: How much each sample counts; None: all the same. [N]
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    exits: tuple[ExitId, ...]
    split: str
    samples: str
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.logits.shape[:2] != (len(self.exits), len(self.labels)):
            raise PolicyError(
                "the table does not fit together",
                got=f"logits {self.logits.shape}, {len(self.exits)} exits, {len(self.labels)} labels",
                expected="logits [E, N, C], E exits, N labels",
            )

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each exit is right about each sample; one that says nothing never is. [E, N]"""
        right = np.asarray(self.logits.argmax(-1) == self.labels)
        right[[row for row, e in enumerate(self.exits) if e.is_none]] = False
        return right

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of samples that each exit gets right, by their weights. [E]"""
        return mean_right(self.correct, self.weights)

    @property
    def weight(self) -> Weights:
        """How much each sample counts. [N]"""
        return np.ones(len(self.labels), np.int64) if self.weights is None else self.weights

    def row(self, exit_id: ExitId) -> int:
        """Index of an exit's row.

        Raises:
            PolicyError: the table does not hold this exit.
        """
        row = self._rows.get(place_of(exit_id))
        if row is None:
            raise PolicyError(f"the {self.split} table does not hold exit {exit_id}", got=[str(e) for e in self.exits])
        return row

    @cached_property
    def remembered(self) -> dict[Hashable, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Scores [N] and correctness [N] of single exits, by exit and scoring: fronts ask for them point by point."""
        return {}

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return rows_of(self.exits)

    def select(self, exits: Sequence[ExitId]) -> ExitTable:
        """The table of these exits only, in this order."""
        rows = [self.row(e) for e in exits]
        return replace(self, logits=self.logits[rows], exits=tuple(exits))

    @classmethod
    def join(cls, tables: Sequence[ExitTable]) -> ExitTable:
        """The rows of several networks over the same samples, one network after the other.

        Args:
            tables: At least one; that of the reference network last, see `reference_row`.

        Raises:
            PolicyError: the tables are of different samples or classes, or two hold the same network.
        """
        first, *others = tables
        for other in others:
            if (other.samples, other.split) != (first.samples, first.split):
                raise PolicyError(
                    "tables over different samples cannot be joined",
                    got=f"{other.split} {other.samples}",
                    expected=f"{first.split} {first.samples}",
                )
            if other.logits.shape[-1] != first.logits.shape[-1]:
                raise PolicyError(
                    "tables of networks with different classes cannot be joined",
                    got=f"{other.logits.shape[-1]} classes",
                    expected=f"{first.logits.shape[-1]}",
                )
        networks = [network for table in tables for network in {e.network for e in table.exits}]
        if len(set(networks)) < len(networks):
            raise PolicyError("the same network cannot be joined with itself", got=networks)
        exits = tuple(e for table in tables for e in table.exits)
        return replace(first, logits=np.concatenate([t.logits for t in tables]), exits=exits)

    def arrays(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
        """Arrays and text metadata, as the store keeps them."""
        exits = json.dumps([e.model_dump() for e in self.exits])
        meta = {"exits": exits, "split": self.split, "samples": self.samples}
        weights = {} if self.weights is None else {"weights": self.weights}
        return {"logits": self.logits, "labels": self.labels, **weights}, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, str]) -> ExitTable:
        """Inverse of `arrays`.

        Raises:
            StoreError: its exits are none.
        """
        exits = read_exits(meta["exits"])
        logits, labels = arrays["logits"].astype(np.float32), arrays["labels"].astype(np.int64)
        weights = arrays["weights"].astype(np.int64) if "weights" in arrays else None
        return cls(logits, labels, exits, meta["split"], meta["samples"], weights)


def best_per_cut(exits: Sequence[ExitId], right: NDArray[np.generic]) -> list[int]:
    """Row of the exit with the most right answers (the first of equals) at each cut of each tier, in the order met.

    Args:
        exits: In the order of the cuts. [E]
        right: How many samples, or which share, each gets right. [E]
    """
    best: dict[tuple[str, ...], int] = {}
    for row, exit_id in enumerate(exits):
        place = exit_id.network, exit_id.cut, exit_id.tier, exit_id.link
        if right[row] > right[best.setdefault(place, row)]:
            best[place] = row
    return list(best.values())


def reference_row(exits: Sequence[ExitId]) -> int | None:
    """Row of the own classifier that all is compared with: that of the last network that has one; None without any.

    On several tiers, where it stands once for each, the first tier's.

    Args:
        exits: Rows of a table. [E]
    """
    outputs = [row for row, e in enumerate(exits) if e.is_output]
    return next((row for row in outputs if exits[row].bare == exits[outputs[-1]].bare), None)
