"""Turns the designs of several networks into joined tables: each network has a workshop of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain

from eesearch.core.cascades import CascadeProfile, member_of, systems_of
from eesearch.core.costs import Profile
from eesearch.core.design import Cascade, Design, content_key, trained_alone
from eesearch.core.policy import Scoring
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.nets.exitnet import ExitNet
from eesearch.study.banks import bank_fields
from eesearch.study.materials import Materials, recall_table
from eesearch.study.members import whole_key
from eesearch.study.workshop import SplitName, Workshop
from eesearch.training.accelerator import placed
from eesearch.training.collect import collect
from eesearch.training.plans import AfterEpoch, Work
from eesearch.training.scoring import fitted_scoring


class JoinedWorkshop(Workshop):
    """Tables of cascades, and the networks behind them; a `Cascade` is a design like any other.

    Args:
        materials: With members.
        progress: Listens to trainings and collections.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        super().__init__(materials, progress)
        (profile, *_) = materials.profiles
        assert isinstance(profile, CascadeProfile)
        self.reference = profile.reference
        self._shops: dict[str, Workshop] = {}
        self._whole: dict[tuple[str, SplitName], ExitTable] = {}

    @cached_property
    def bank_design(self) -> Cascade:
        """Every head at every cut of every network, on frozen backbones; of what is searched, the middle options."""
        return self.cascade([spec.proposed({}).name for spec in self.materials.study.backbones])

    def cascade(self, names: Sequence[str], trained: tuple[str, Design] | None = None) -> Cascade:
        """The banks of some networks, side by side.

        Args:
            names: Of the networks; the reference is among them.
            trained: Name of a network that was trained together with its exits, and how.
        """
        own = {name: self.materials.members[name] for name in names}
        members = {name: Design(**bank_fields(each)) for name, each in own.items() if each.heads}
        fields = bank_fields(own[self.reference])
        if trained is not None:
            name, design = trained
            members[name], fields = design, {field: getattr(design, field) for field in Design.model_fields}
        exits = tuple(chain(*(design.exits for design in members.values())))
        whole = {name: each.key for name, each in own.items() if name not in members}
        return Cascade(**fields | {"exits": exits}, members=members, whole=whole, reference=self.reference)

    def shop(self, name: str) -> Workshop:
        """That of one network; a network that a trial has proposed is trained now, unless that has been done.

        Raises:
            EesearchError: training failed.
        """
        if name not in self._shops:
            own = self.materials.members[name]
            if own.train is not None:
                with self._alone("network", own.key), self.materials.watch.phase("train networks"):
                    own = replace(own, backbone=own.train(), train=None)
            self._shops[name] = Workshop(own, self.progress)
        return self._shops[name]

    def table(self, design: Design, split: SplitName, after_epoch: AfterEpoch | None = None) -> ExitTable:
        """What the exits of all networks say about a split, those of the reference last.

        Raises:
            EesearchError: training failed.
            StoppedEarlyError: `after_epoch` said so.
            RunError: the store cannot be written.
        """
        assert isinstance(design, Cascade)
        key = (design.key, split)
        if key not in self._tables:
            ordered = sorted(design.networks, key=lambda name: name == self.reference)
            table = ExitTable.join([self._member_table(design, name, split, after_epoch) for name in ordered])
            self.materials.store.put("table", f"{design.key}-{split}", *table.arrays())
            self._forget_others()
            self._tables[key] = table
        return self._tables[key]

    def _member_table(
        self, design: Cascade, name: str, split: SplitName, after_epoch: AfterEpoch | None = None
    ) -> ExitTable:
        if name in design.members:
            return self.shop(name).table(design.members[name], split, after_epoch)
        return self._whole_table(name, split)

    def _whole_table(self, name: str, split: SplitName) -> ExitTable:
        """What an unmodified network says about a split: a table of one row."""
        if (name, split) not in self._whole:
            backbone, data = self.shop(name).materials.backbone, getattr(self.materials.dataset, split)
            key = f"{content_key('whole', name, backbone.key)}-{split}"
            table = recall_table(self.materials.store, key, data.key)
            if table is None:
                net = ExitNet(backbone, {})
                with placed(net, self._device):
                    table = collect(net, data, progress=self.progress)
                self.materials.store.put("table", key, *table.arrays())
            self._whole[name, split] = table
        return self._whole[name, split]

    def look(self, net: ExitNet, criterion: str, answer: str = "own") -> tuple[ExitTable, Scoring]:
        """As `Workshop.look`; beside the network stand the others of the bank."""
        own = collect(net, self.materials.dataset.cal)
        name = member_of(own.exits[-1])
        ordered = sorted(self.bank_design.networks, key=lambda each: each == self.reference)
        tables = [own if each == name else self._member_table(self.bank_design, each, "cal") for each in ordered]
        table = ExitTable.join(tables)
        return table, fitted_scoring((criterion, answer), lambda: table, lambda: net, seed=self._seed)

    def keep_network(self, design: Design) -> None:
        """Make sure that the store holds every network of a cascade that is answered with."""
        assert isinstance(design, Cascade)
        for name, member in design.members.items():
            self.shop(name).keep_network(member)
        for name, network in design.whole.items():
            key = whole_key(network)
            if not self.materials.store.path("weights", key).exists():
                self.materials.store.put("weights", key, *ExitNet(self.shop(name).materials.backbone, {}).arrays())

    def work(self, design: Design) -> Work:
        """What training a cascade takes beyond the banks of trial 0: of these, what training their heads takes.

        Of a proposed size this is what it would take: one that another trial has proposed is not trained again.
        """
        assert isinstance(design, Cascade)
        bank, single = self.bank_design, trained_alone(design)
        known = {} if design == bank else {**bank.members, **dict.fromkeys(bank.whole)}
        new = [name for name in design.networks if name not in known or design.members.get(name) != known[name]]
        works = {name: self._work_of(design, name) for name in new}
        others = [work for name, work in works.items() if design.members.get(name) is not single]
        ready = tuple(sum(w[k] for w in map(_passes, others)) for k in range(3))
        own = next((work for name, work in works.items() if design.members.get(name) is single), Work(0, 0, 0, 0, 0))
        samples, forward, backward = (done + own for done, own in zip(ready, _passes(own), strict=True))
        return Work(own.epochs, own.last, samples, forward, backward, (ready[0], ready[1], ready[2]))

    def _work_of(self, design: Cascade, name: str) -> Work:
        own, trained = self.materials.members[name], design.members.get(name)
        work = Workshop(own).work(trained) if trained else Work(0, 0, 0, 0, 0)
        if not own.untrained:
            return work
        samples = own.study.training.epochs * len(self.materials.dataset.train)
        passes = samples * len(own.backbone.segments)
        return Work(work.epochs, work.last, work.samples + samples, work.forward + passes, work.backward + passes)

    def coded_tables(self, design: Design, split: SplitName, profile: Profile) -> tuple[ExitTable, ...]:
        """Those of each network that has exits: a whole one has no cut at which a link could code."""
        assert isinstance(design, Cascade)
        systems = systems_of(profile)
        return tuple(
            table
            for name, member in design.members.items()
            if name in systems
            for table in self.shop(name).coded_tables(member, split, systems[name])
        )

    def backbone_table(self, split: SplitName) -> ExitTable:
        """What the unmodified reference says about a split: a table of one row."""
        return self._whole_table(self.reference, split)


def _passes(work: Work) -> tuple[int, int, int]:
    return work.samples, work.forward, work.backward
