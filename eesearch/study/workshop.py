"""Turns designs into tables: trains what the store does not hold yet, and keeps what it made."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from eesearch.core.cascades import systems_of
from eesearch.core.costs import Profile
from eesearch.core.design import Design, content_key
from eesearch.core.errors import RunError
from eesearch.core.locks import locked
from eesearch.core.policy import Fit, Scoring
from eesearch.core.progress import Progress, silent
from eesearch.core.store import disk_errors
from eesearch.core.tables import ExitTable
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.links import link_name
from eesearch.nets.split import Backbone
from eesearch.study.banks import bank_fields
from eesearch.study.drafts import draft_key, drafted
from eesearch.study.materials import Arrays, Materials, recall, recall_table
from eesearch.study.rundir import RunDir
from eesearch.study.spread import BankPart, Spread, SpreadJob, TableShard, part_bank, shard_table
from eesearch.study.trial import StoppedEarlyError
from eesearch.training.accelerator import CPU, Room, find_device, placed
from eesearch.training.bank import Heads, build_heads, count_samples, plan_cache, train_bank
from eesearch.training.cache import NO_CACHING, Caching
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.collect import collect
from eesearch.training.data import Split
from eesearch.training.plans import AfterEpoch, Work, count_work, train_design
from eesearch.training.scoring import fitted_scoring

log = logging.getLogger(__name__)

RECENT_TABLES = 4
"""Tables of trained designs that are kept in memory; all are in the store."""

SplitName = Literal["train", "cal", "test"]


class Workshop:
    """Trained networks, their tables and fits, by design.

    Args:
        materials: What all trials share.
        progress: Listens to trainings and collections.

    Attributes:
        spread: Where the bank and large tables are made, in pieces; None: here.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        self.materials = materials
        self.progress = progress
        self.spread: Spread | None = None
        self._device = find_device(materials.study.resources.accelerator)
        self._tables: dict[tuple[str, str], ExitTable] = {}
        self._fits: dict[str, Fit] = {}
        self._backbone: dict[str, ExitTable] = {}

    @cached_property
    def bank_design(self) -> Design:
        """Every head at every cut, on the frozen backbone."""
        return Design(**bank_fields(self.materials))

    @cached_property
    def draft_design(self) -> Design | None:
        """The same heads, trained on a share of the samples; None: the study wants no draft."""
        study, train = self.materials.study, self.materials.dataset.train
        if study.training.draft is None:
            return None
        return self.bank_design.model_copy(update={"data": draft_key(study, train)})

    def _is_bank(self, design: Design) -> bool:
        return design in (self.bank_design, self.draft_design)

    def learned_from(self, design: Design) -> Split:
        """The samples that a design is trained on."""
        train, draft = self.materials.dataset.train, self.draft_design
        return drafted(self.materials.study, train) if draft and design.data == draft.data else train

    def table(self, design: Design, split: SplitName, after_epoch: AfterEpoch | None = None) -> ExitTable:
        """The design's table on a split; trains the design if nothing is stored, as `network` does.

        Raises:
            EesearchError: training failed.
            RunError: the store cannot be written.
        """
        key = (design.key, split)
        if key not in self._tables:
            table = self._kept_table(design, split)
            if table is None:
                net = self.network(design, after_epoch)
                with self._alone("table", f"{design.key}-{split}"):
                    table = self._kept_table(design, split)
                    table = table if table is not None else self._collect(net, design, split)
            self._forget_others()
            self._tables[key] = table
        return self._tables[key]

    def _kept_table(self, design: Design, split: SplitName) -> ExitTable | None:
        data: Split = getattr(self.materials.dataset, split)
        return recall_table(self.materials.store, f"{design.key}-{split}", data.key)

    def _alone(self, kind: str, key: str) -> AbstractContextManager[None]:
        """Held by who makes something: another process that needs it waits, and then finds it in the store."""
        file = self.materials.store.root.parent / "locks" / f"{kind}-{key}.lock"
        return locked(file, waiting=f"another process makes {kind} {key}; this one waits for it")

    def _forget_others(self) -> None:
        """Keep the bank's tables, which every trial asks for, and few others: logits of many trials fill the memory."""
        others = [key for key in self._tables if key[0] != self.bank_design.key]
        for key in others[: max(0, len(others) - RECENT_TABLES + 1)]:
            del self._tables[key]

    def _collect(self, net: ExitNet, design: Design, split: SplitName) -> ExitTable:
        data: Split = getattr(self.materials.dataset, split)
        with self.materials.watch.phase("collect tables"):
            shards = self._shards(design, split)
            if shards and self.spread:
                self.spread(shards)
                logits = [np.asarray(self._take("shard", shard.key)[0]["logits"]) for shard in shards]
                joined = np.concatenate(logits, axis=1).astype(np.float32, copy=False)
                table = ExitTable(joined, data.y, net.exits, data.name, data.key, data.weights)
            else:
                with placed(net, self._device):
                    table = collect(net, data, progress=self.progress)
        self.materials.store.put("table", f"{design.key}-{split}", *table.arrays())
        _remove(self.materials.store.path("shard", shard.key) for shard in shards)
        return table

    def coded_tables(self, design: Design, split: SplitName, profile: Profile) -> tuple[ExitTable, ...]:
        """For each cut at which a link of a system may code: what the exits behind it say then. Each is kept."""
        cuts = [cut for system in systems_of(profile).values() for cut in system.coded_bytes]
        return tuple(self._coded_table(design, split, cut) for cut in cuts)

    def _coded_table(self, design: Design, split: SplitName, cut: str) -> ExitTable:
        key, data = f"{design.key}-{split}-{content_key(link_name(cut))}", getattr(self.materials.dataset, split)
        with self._alone("table", key):
            table = recall_table(self.materials.store, key, data.key)
            if table is None:
                net = self.network(design)
                with self.materials.watch.phase("collect tables"), placed(net, self._device):
                    table = collect(net.behind(cut), data, progress=self.progress)
                self.materials.store.put("table", key, *table.arrays())
        return table

    def _shards(self, design: Design, split: SplitName) -> list[TableShard]:
        if self.spread is None:
            return []
        samples, macs = len(getattr(self.materials.dataset, split)), self.materials.profiles[0].macs_prefix[-1]
        return shard_table(design, split, samples=samples, macs=macs, workers=self.spread.workers)

    def do(self, job: SpreadJob) -> None:
        """Do a piece of another process's work; it finds the result in the store.

        Raises:
            EesearchError: a training failed, or an exit gives NaN or infinity.
            RunError: the store cannot be written.
        """
        store = self.materials.store
        if isinstance(job, BankPart):
            caching = self._caching if job.cached else NO_CACHING
            with self._alone("part", job.key):
                if recall(store, "part", job.key) is None:
                    store.put("part", job.key, *self._train_bank(job.design, caching, job.key).arrays())
                    self._forget_training(job.key)
        elif recall(store, "shard", job.key) is None:
            whole: Split = getattr(self.materials.dataset, job.split)
            rows = Split(whole.name, whole.x[job.first : job.last], whole.y[job.first : job.last])
            store.put("shard", job.key, *collect(self.network(job.design), rows).arrays())

    def network(self, design: Design, after_epoch: AfterEpoch | None = None) -> ExitNet:
        """The trained network of a design, from the store or trained now.

        Args:
            design: What to train.
            after_epoch: Shown the network after each epoch of a joint training; what it raises ends the training.

        Raises:
            EesearchError: training failed.
            StoppedEarlyError: `after_epoch` said so; nothing of the design is kept.
            RunError: the store cannot be written.
        """
        kept = recall(self.materials.store, "weights", design.key)
        if kept is None:
            with self._alone("design", design.key):
                kept = recall(self.materials.store, "weights", design.key)
                if kept is None:
                    with self.materials.watch.phase("train bank" if self._is_bank(design) else "train designs"):
                        net = self._train(design, after_epoch)
                    self._keep(design, net)
                    return net
        return ExitNet.from_arrays(self.materials.backbone, *kept)  # brings the backbone's weights along

    def _keep(self, design: Design, net: ExitNet) -> None:
        self.materials.store.put("weights", design.key, *net.arrays())
        self._forget_training(design.key)

    def _forget_training(self, key: str) -> None:
        """Remove its checkpoints, and the parts that it was made of, if any."""
        _remove(self._checkpoint(key).path.parent.glob(f"{key}*"))
        _remove(self.materials.store.path("part", key).parent.glob(f"{key}-*"))

    def _train(self, design: Design, after_epoch: AfterEpoch | None) -> ExitNet:
        split = self.materials.dataset.train
        if design.strategy == "separate":
            parts = self._parts(design) if self._is_bank(design) else []
            return self._train_parts(parts) if parts else self._train_bank(design, self._caching, design.key)
        start, checkpoint = self._start(design), self._checkpoint(design.key)
        try:
            return train_design(
                start,
                design,
                split,
                checkpoint=checkpoint,
                progress=self.progress,
                after_epoch=after_epoch,
                room=Room(self._device, self._caching),
            )
        except StoppedEarlyError:
            self._forget_training(design.key)
            raise

    @property
    def _caching(self) -> Caching:
        run = RunDir(self.materials.store.root.parent)
        return Caching(self.materials.study.budget.max_cache_gb, run.cache)

    def _train_bank(self, design: Design, caching: Caching, key: str) -> ExitNet:
        with placed(self.materials.backbone, self._device):
            net = train_bank(
                self.materials.backbone,
                design,
                self.learned_from(design),
                caching=caching,
                checkpoint=self._checkpoint(key),
                progress=self.progress,
            )
        return net.to(CPU)

    def _parts(self, bank: Design) -> list[BankPart]:
        if self.spread is None:
            return []
        backbone, samples = self.materials.backbone, len(self.learned_from(bank))
        return part_bank(
            bank,
            backbone,
            self.materials.profiles[0],
            samples=samples,
            cached=plan_cache(backbone, bank.exits, samples) / 1e9 <= self.materials.study.budget.max_cache_gb,
            workers=self.spread.workers,
        )

    def _train_parts(self, parts: list[BankPart]) -> ExitNet:
        assert self.spread is not None
        self.spread(parts)
        heads: Heads = {}
        for part in parts:
            net = ExitNet.from_arrays(self.materials.backbone, *self._take("part", part.key))
            heads |= {(e.cut, e.head.name): net.head(e.cut, e.head.name) for e in part.design.exits}
        return ExitNet(self.materials.backbone, heads).eval()

    def _take(self, kind: str, key: str) -> Arrays:
        kept = self.materials.store.get(kind, key)
        if kept is None:
            raise RunError(f"the store lacks {kind} {key}", do="Is the run directory on storage that all workers see?")
        return kept

    def work(self, design: Design) -> Work:
        """What training a design takes."""
        backbone, train = self._backbone_of(design), len(self.learned_from(design))
        if design.strategy == "separate":
            epochs, limit = design.train.epochs, self.materials.study.budget.max_cache_gb
            samples = count_samples(backbone, design.exits, train, epochs=epochs, max_cache_gb=limit)
            return Work(epochs, epochs, samples, samples * len(backbone.segments), 0)
        return count_work(ExitNet(backbone, build_heads(backbone, design.exits, design.seed)), design, train)

    def _backbone_of(self, design: Design) -> Backbone:
        fresh = self.materials.fresh
        return fresh if fresh is not None and design.backbone == fresh.key else self.materials.backbone

    def _start(self, design: Design) -> ExitNet:
        """The network that training starts from: the backbone, with the bank's heads or with random ones."""
        backbone = self._backbone_of(design)
        if not design.start:
            return ExitNet(copy.deepcopy(backbone), build_heads(backbone, design.exits, design.seed))
        bank = self.network(self.bank_design)
        heads = {(e.cut, e.head.name): bank.head(e.cut, e.head.name) for e in design.exits}
        return ExitNet(copy.deepcopy(backbone), copy.deepcopy(heads))

    def _checkpoint(self, key: str) -> Checkpoint:
        return Checkpoint(self.materials.store.root.parent / "checkpoints" / key)

    def keep_network(self, design: Design) -> None:
        """Make sure that the store holds the network of a design that is answered with."""
        if not self.materials.store.path("weights", design.key).exists():
            self.network(design)

    def scoring(self, design: Design, criterion: str, answer: str = "own") -> Scoring:
        """How policies on a design score and answer, with the fits that this takes.

        Raises:
            PolicyError: the design has not learnt what the answer needs.
        """

        def keep(kind: str, make: Callable[[], Fit]) -> Fit:
            return self._fit(design, kind, make if kind == "temperature" else self._watched(make))

        return fitted_scoring(
            (criterion, answer),
            lambda: self.table(design, "cal"),
            lambda: self.network(design),
            seed=self._seed,
            keep=keep,
        )

    def look(self, net: ExitNet, criterion: str, answer: str = "own") -> tuple[ExitTable, Scoring]:
        """The calibration table of a network as it is, in the middle of its training, and its fits; nothing is kept."""
        table = collect(net, self.materials.dataset.cal)
        return table, fitted_scoring((criterion, answer), lambda: table, lambda: net, seed=self._seed)

    @property
    def _seed(self) -> int:
        return self.materials.study.seed

    def _watched(self, make: Callable[[], Fit]) -> Callable[[], Fit]:
        def watched() -> Fit:
            with self.materials.watch.phase("fit criteria"):
                return make()

        return watched

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
                    raise RunError(f"the store lacks fit {key}", do="Run the same command again: it is made again.")
                self._fits[key] = Fit.from_arrays(*kept)
        return tuple(self._fits[key] for key in keys)

    def has_fits(self, keys: Sequence[str]) -> bool:
        """Whether the store still holds the fits that a remembered policy names, whole."""
        try:
            self.fits(keys)
        except RunError:
            return False
        return True

    def backbone_table(self, split: SplitName) -> ExitTable:
        """What the unmodified backbone says about a split: a table of one row, the last of a bank if there is one."""
        if split not in self._backbone:
            banks = (self._kept_table(design, split) for design in (self.bank_design, self.draft_design) if design)
            bank = next((table for table in banks if table is not None), None)
            if bank is None:
                data = getattr(self.materials.dataset, split)
                self._backbone[split] = collect(ExitNet(self.materials.backbone, {}), data, progress=self.progress)
            else:
                self._backbone[split] = bank.select(bank.exits[-1:])
        return self._backbone[split]


def _remove(files: Iterable[Path]) -> None:
    """Remove files that another process may be removing, too."""
    for file in files:
        with disk_errors(file):
            file.unlink(missing_ok=True)
