"""Turns the designs of several networks into joined tables: each network has a workshop of its own."""

from __future__ import annotations

from functools import cached_property

from eesearch.core.cascades import CascadeProfile, systems_of
from eesearch.core.costs import Profile
from eesearch.core.design import Cascade, Design, content_key
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.nets.exitnet import ExitNet
from eesearch.study.materials import Materials, recall_table
from eesearch.study.members import whole_key
from eesearch.study.workshop import SplitName, Workshop, bank_fields
from eesearch.training.collect import collect
from eesearch.training.plans import AfterEpoch, Work


class JoinedWorkshop(Workshop):
    """Tables of cascades, and the networks behind them; a `Cascade` is a design like any other.

    Args:
        materials: With members.
        progress: Listens to trainings and collections.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        super().__init__(materials, progress)
        self.shops = {name: Workshop(own, progress) for name, own in materials.members.items()}
        (profile, *_) = materials.profiles
        assert isinstance(profile, CascadeProfile)
        self.reference = profile.reference
        self.ordered = sorted(self.shops, key=lambda name: name == self.reference)
        self._whole: dict[tuple[str, SplitName], ExitTable] = {}

    @cached_property
    def bank_design(self) -> Cascade:
        """Every head at every cut of every network, on frozen backbones."""
        with_exits = {name: shop for name, shop in self.shops.items() if shop.materials.heads}
        return Cascade(
            **bank_fields(self.materials),
            members={name: shop.bank_design for name, shop in with_exits.items()},
            whole={name: s.materials.backbone.key for name, s in self.shops.items() if name not in with_exits},
            reference=self.reference,
        )

    def table(self, design: Design, split: SplitName, after_epoch: AfterEpoch | None = None) -> ExitTable:
        """What the exits of all networks say about a split, those of the reference last.

        Raises:
            EesearchError: training failed.
            RunError: the store cannot be written.
        """
        assert isinstance(design, Cascade)
        key = (design.key, split)
        if key not in self._tables:
            self._tables[key] = ExitTable.join([self._member_table(design, name, split) for name in self.ordered])
            self.materials.store.put("table", f"{design.key}-{split}", *self._tables[key].arrays())
        return self._tables[key]

    def _member_table(self, design: Cascade, name: str, split: SplitName) -> ExitTable:
        trained = name in design.members
        return self.shops[name].table(design.members[name], split) if trained else self._whole_table(name, split)

    def _whole_table(self, name: str, split: SplitName) -> ExitTable:
        """What an unmodified network says about a split: a table of one row."""
        if (name, split) not in self._whole:
            backbone, data = self.shops[name].materials.backbone, getattr(self.materials.dataset, split)
            key = f"{content_key('whole', name, backbone.key)}-{split}"
            table = recall_table(self.materials.store, key, data.key)
            if table is None:
                table = collect(ExitNet(backbone, {}), data, progress=self.progress)
                self.materials.store.put("table", key, *table.arrays())
            self._whole[name, split] = table
        return self._whole[name, split]

    def keep_network(self, design: Design) -> None:
        """Make sure that the store holds every network of a cascade that is answered with."""
        assert isinstance(design, Cascade)
        for name, member in design.members.items():
            self.shops[name].keep_network(member)
        for name, network in design.whole.items():
            key = whole_key(network)
            if not self.materials.store.path("weights", key).exists():
                self.materials.store.put("weights", key, *ExitNet(self.shops[name].materials.backbone, {}).arrays())

    def work(self, design: Design) -> Work:
        """What training all networks' heads takes."""
        assert isinstance(design, Cascade)
        works = [self.shops[name].work(member) for name, member in design.members.items()]
        epochs = max((work.epochs for work in works), default=0)
        return Work(epochs, epochs, sum(w.samples for w in works), sum(w.forward for w in works), 0)

    def coded_tables(self, design: Design, split: SplitName, profile: Profile) -> tuple[ExitTable, ...]:
        """Those of each network that has exits: a whole one has no cut at which a link could code."""
        assert isinstance(design, Cascade)
        systems = systems_of(profile)
        return tuple(
            table
            for name, member in design.members.items()
            if name in systems
            for table in self.shops[name].coded_tables(member, split, systems[name])
        )

    def backbone_table(self, split: SplitName) -> ExitTable:
        """What the unmodified reference says about a split: a table of one row."""
        return self._whole_table(self.reference, split)
