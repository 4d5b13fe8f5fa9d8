"""Turns designs into tables: trains what the store does not hold yet, and keeps what it made."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Literal

from eesearch.core.design import Design, ExitSpec
from eesearch.core.errors import RunError
from eesearch.core.policy import Fit, Scoring, decision_name, decision_named
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.nets.exitnet import ExitNet
from eesearch.study.materials import Materials, recall
from eesearch.training.bank import build_heads, train_bank
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.collect import collect
from eesearch.training.fits import fit_ensemble, fit_temperature
from eesearch.training.plans import train_design

log = logging.getLogger(__name__)

RECENT_TABLES = 4
"""Tables of trained designs that are kept in memory; all are in the store."""

SplitName = Literal["train", "cal", "test"]


class Workshop:
    """Trained networks, their tables and fits, by design.

    Args:
        materials: What all trials share.
        progress: Listens to trainings and collections.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        self.materials = materials
        self.progress = progress
        study, dataset = materials.study, materials.dataset
        self.bank_design = Design(
            backbone=materials.backbone.key,
            data=dataset.train.key,
            strategy="separate",
            exits=tuple(ExitSpec(cut=cut, head=head) for cut, heads in materials.heads.items() for head in heads),
            train=study.training.heads,
            seed=study.seed,
        )
        self._tables: dict[tuple[str, str], ExitTable] = {}
        self._fits: dict[str, Fit] = {}
        self._backbone: dict[str, ExitTable] = {}

    def table(self, design: Design, split: SplitName) -> ExitTable:
        """The design's table on a split; trains the design if nothing is stored.

        Raises:
            EesearchError: training failed.
            RunError: the store cannot be written.
        """
        key = (design.key, split)
        if key not in self._tables:
            kept = recall(self.materials.store, "table", f"{design.key}-{split}")
            table = ExitTable.from_arrays(*kept) if kept else self._collect(design, split)
            self._forget_others()
            self._tables[key] = table
        return self._tables[key]

    def _forget_others(self) -> None:
        """Keep the bank's tables, which every trial asks for, and few others: logits of many trials fill the memory."""
        others = [key for key in self._tables if key[0] != self.bank_design.key]
        for key in others[: max(0, len(others) - RECENT_TABLES + 1)]:
            del self._tables[key]

    def _collect(self, design: Design, split: SplitName) -> ExitTable:
        data = getattr(self.materials.dataset, split)
        net = self.network(design)
        with self.materials.watch.phase("collect tables"):
            table = collect(net, data, progress=self.progress)
        self.materials.store.put("table", f"{design.key}-{split}", *table.arrays())
        return table

    def network(self, design: Design) -> ExitNet:
        """The trained network of a design, from the store or trained now.

        Raises:
            EesearchError: training failed.
            RunError: the store cannot be written.
        """
        kept = recall(self.materials.store, "weights", design.key)
        if kept is not None:
            return ExitNet.from_arrays(self.materials.backbone, *kept)  # brings the backbone's weights along
        with self.materials.watch.phase("train bank" if design == self.bank_design else "train designs"):
            net = self._train(design)
        self.materials.store.put("weights", design.key, *net.arrays())
        for file in self._checkpoint(design).path.parent.glob(f"{design.key}*"):
            file.unlink()
        return net

    def _train(self, design: Design) -> ExitNet:
        materials, split = self.materials, self.materials.dataset.train
        if design.strategy == "separate":
            limit = materials.study.budget.max_cache_gb
            return train_bank(
                materials.backbone, design, split,
                max_cache_gb=limit, checkpoint=self._checkpoint(design), progress=self.progress,
            )  # fmt: skip
        start = self._start(design)
        return train_design(start, design, split, checkpoint=self._checkpoint(design), progress=self.progress)

    def _start(self, design: Design) -> ExitNet:
        """The network that training starts from: the backbone, with the bank's heads or with random ones."""
        backbone = self.materials.backbone
        if self.materials.fresh is not None and design.backbone == self.materials.fresh.key:
            backbone = self.materials.fresh
        if not design.start:
            return ExitNet(copy.deepcopy(backbone), build_heads(backbone, design.exits, design.seed))
        bank = self.network(self.bank_design)
        heads = {(e.cut, e.head.name): bank.head(e.cut, e.head.name) for e in design.exits}
        return ExitNet(copy.deepcopy(backbone), copy.deepcopy(heads))

    def _checkpoint(self, design: Design) -> Checkpoint:
        return Checkpoint(self.materials.store.root.parent / "checkpoints" / design.key)

    def keep_network(self, design: Design) -> None:
        """Make sure that the store holds the network of a design that is answered with."""
        if not self.materials.store.path("weights", design.key).exists():
            self.network(design)

    def scoring(self, design: Design, criterion: str, answer: str = "own") -> Scoring:
        """How policies on a design score and answer, with the fits that this takes."""
        fits = [self._fit(design, "temperature", lambda: fit_temperature(self.table(design, "cal"), seed=self._seed))]
        if "ensemble" in decision_named(decision_name(criterion, answer)).needs:
            fits.append(self._fit(design, "ensemble", lambda: self._ensemble(design, fits[0])))
        return Scoring(criterion, answer, tuple(fits))

    @property
    def _seed(self) -> int:
        return self.materials.study.seed

    def _ensemble(self, design: Design, temperature: Fit) -> Fit:
        with self.materials.watch.phase("fit ensembles"):
            return fit_ensemble(self.table(design, "cal"), temperature, seed=self._seed)

    def _fit(self, design: Design, kind: str, make: Callable[[], Fit]) -> Fit:
        """A fit of a design, from the store or made now."""
        key = f"{design.key}-{kind}"
        if key not in self._fits:
            kept = recall(self.materials.store, "fit", key)
            fit = make() if kept is None else Fit.from_arrays(*kept)
            if not self.materials.store.path("fit", fit.key).exists():
                self.keep_fit(fit)
            if kept is None:
                self.materials.store.put("fit", key, *fit.arrays())
            self._fits[key] = self._fits[fit.key] = fit
        return self._fits[key]

    def keep_fit(self, fit: Fit) -> None:
        """Store a fit under its own key, by which policies name it."""
        self.materials.store.put("fit", fit.key, *fit.arrays())
        self._fits[fit.key] = fit

    def fits(self, keys: Sequence[str]) -> tuple[Fit, ...]:
        """The fits that a policy names.

        Raises:
            RunError: the store has lost one.
        """
        for key in keys:
            if key not in self._fits:
                kept = recall(self.materials.store, "fit", key)
                if kept is None:
                    raise RunError(f"the store lacks fit {key}", do="Delete store/front of the run, and search again.")
                self._fits[key] = Fit.from_arrays(*kept)
        return tuple(self._fits[key] for key in keys)

    def backbone_table(self, split: SplitName) -> ExitTable:
        """What the unmodified backbone says about a split: a table of one row, the bank's last if there is a bank."""
        if split not in self._backbone:
            kept = recall(self.materials.store, "table", f"{self.bank_design.key}-{split}")
            if kept is None:
                data = getattr(self.materials.dataset, split)
                self._backbone[split] = collect(ExitNet(self.materials.backbone, {}), data, progress=self.progress)
            else:
                bank = ExitTable.from_arrays(*kept)
                self._backbone[split] = bank.select(bank.exits[-1:])
        return self._backbone[split]
