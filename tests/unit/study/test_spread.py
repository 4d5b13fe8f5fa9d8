"""Trial 0 in pieces: the pieces together are what one process makes, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from eesearch.core.errors import EesearchError, RunError
from eesearch.core.store import Store
from eesearch.study import spread
from eesearch.study.materials import prepare
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.spread import BATCH, BankPart, TableShard, part_bank, shard_table
from eesearch.study.workshop import Workshop, _remove

FIELDS = {
    "name": "pieces",
    "backbone": {
        "model": "eesearch.nets.zoo:residual_cnn",
        "args": {"channels": [4, 8], "blocks": 1, "classes": 10, "in_channels": 1},
    },
    "data": {"source": "eesearch.training.data:digits", "calibration": {"from": "train", "share": 0.4}},
    "training": {"epochs": 0, "heads": {"epochs": 1, "batch_size": 64, "lr": 0.02}},
    "devices": ["macs"],
    "space": {
        "heads": [
            {"kind": "linear", "pool": "mixed", "size": 2},
            {"kind": "conv", "pool": "none", "channels": 4},
            {"kind": "tree", "depth": 2},
        ]
    },
}


class Inline:
    """Another workshop on the same store does every job."""

    workers = 2

    def __init__(self, materials):
        self.materials, self.jobs = materials, []

    def __call__(self, jobs):
        self.jobs += jobs
        for job in jobs:
            Workshop(self.materials).do(job)


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    return prepare(Study.model_validate(FIELDS), RunDir(tmp_path_factory.mktemp("prepared")))


def workshop_in(path, materials, **budget):
    study = materials.study.model_copy(update={"budget": materials.study.budget.model_copy(update=budget)})
    return Workshop(replace(materials, study=study, store=Store(path / "store")))


def entries(store, bank):
    return store.get("weights", bank.key), store.get("table", f"{bank.key}-train")


@pytest.fixture
def worthwhile(monkeypatch):
    monkeypatch.setattr(spread, "WORTH_MACS", 0.0)
    monkeypatch.setattr(spread, "WORTH_SHARE", 1.0)


@pytest.mark.usefixtures("worthwhile")
@pytest.mark.parametrize("gigabytes", [4.0, 1e-6], ids=["cached", "not cached"])
def test_bank_and_table_made_in_pieces_are_those_made_in_one_go(materials, tmp_path, gigabytes):
    whole = workshop_in(tmp_path / "whole", materials, max_cache_gb=gigabytes)
    pieces = workshop_in(tmp_path / "pieces", materials, max_cache_gb=gigabytes)
    pieces.spread = inline = Inline(pieces.materials)
    bank = whole.bank_design
    expected, table = whole.table(bank, "train"), pieces.table(bank, "train")
    np.testing.assert_array_equal(table.logits, expected.logits, strict=True)
    assert table.exits == expected.exits
    assert (table.split, table.samples) == (expected.split, expected.samples)
    one, other = whole.materials.store, pieces.materials.store
    for (arrays, meta), (own, own_meta) in zip(entries(one, bank), entries(other, bank), strict=True):
        assert meta == own_meta
        assert arrays.keys() == own.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, own[name], strict=True)
    kinds = [type(job) for job in inline.jobs]
    assert kinds.count(BankPart) == 2
    assert kinds.count(TableShard) == 3, "862 samples are four batches of 256, in 2 x 2 shards at most"
    assert [file.parent.name for file in other.root.rglob("*.safetensors")] == [
        file.parent.name for file in one.root.rglob("*.safetensors")
    ], "nothing is left of the pieces"


@pytest.mark.usefixtures("worthwhile")
def test_finished_pieces_are_not_made_again(materials, tmp_path):
    workshop = workshop_in(tmp_path, materials)
    workshop.spread = Inline(workshop.materials)
    (first, *_) = workshop._parts(workshop.bank_design)
    workshop.do(first)
    made = workshop.materials.store.path("part", first.key)
    written = made.stat().st_mtime_ns
    Workshop(workshop.materials).do(first)
    assert made.stat().st_mtime_ns == written


@pytest.mark.usefixtures("worthwhile")
def test_what_a_crash_leaves_of_parts_is_no_network_and_goes_with_the_next_bank(materials, tmp_path, monkeypatch):
    workshop = workshop_in(tmp_path, materials)
    workshop.spread = Inline(workshop.materials)
    (first, *_) = workshop._parts(workshop.bank_design)
    workshop.do(first)
    store, checkpoints = workshop.materials.store, tmp_path / "checkpoints"
    assert not (store.root / "weights").exists()
    assert first.key.split("-") == [workshop.bank_design.key, first.design.key]
    (checkpoints / f"{first.key}.0").write_bytes(b"of a part")
    monkeypatch.setattr(workshop, "_parts", lambda *args: [])  # a single process goes on
    workshop.network(workshop.bank_design)
    assert list((store.root / "part").iterdir()) == []
    assert list(checkpoints.iterdir()) == []


def test_what_cannot_be_removed_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    _remove([tmp_path / "gone"])
    with pytest.raises(RunError, match="folder"):
        _remove([tmp_path / "folder"])


@pytest.mark.usefixtures("worthwhile")
def test_a_lost_piece_is_told_with_what_may_be_wrong(materials, tmp_path):
    workshop = workshop_in(tmp_path, materials)

    class Elsewhere(Inline):
        def __call__(self, jobs):
            """On a machine that sees another directory."""

    workshop.spread = Elsewhere(workshop.materials)
    with pytest.raises(RunError, match=r"lacks part .* storage that all workers see"):
        workshop.network(workshop.bank_design)


@pytest.mark.usefixtures("worthwhile")
def test_what_a_piece_raises_ends_the_whole(materials, tmp_path):
    workshop = workshop_in(tmp_path, materials)

    class Failing(Inline):
        def __call__(self, jobs):
            raise EesearchError("the training diverged")

    workshop.spread = Failing(workshop.materials)
    with pytest.raises(EesearchError, match="diverged"):
        workshop.network(workshop.bank_design)


def parts_of(workshop, **options):
    materials = workshop.materials
    given = {"samples": len(materials.dataset.train), "cached": True, "workers": 2} | options
    return part_bank(workshop.bank_design, materials.backbone, materials.profiles[0], **given)


def test_little_work_is_not_spread(materials, tmp_path):
    workshop = workshop_in(tmp_path, materials)
    assert parts_of(workshop) == []
    assert shard_table(workshop.bank_design, "cal", samples=1000, macs=1e5, workers=8) == []


def test_large_work_is_spread_over_several_workers_only(materials, tmp_path):
    workshop = workshop_in(tmp_path, materials)
    many = 10**9
    assert parts_of(workshop, samples=many, workers=1) == []
    parts = parts_of(workshop, samples=many, workers=3)
    assert 2 <= len(parts) <= 3
    assert [e for part in parts for e in part.design.exits] == list(workshop.bank_design.exits)
    assert all(part.cached for part in parts)


def test_a_bank_whose_deepest_part_is_as_long_as_the_whole_is_not_spread(materials, tmp_path):
    """Where the pass of the backbone is nearly all, the part with the last cut takes as long as everything."""
    workshop = workshop_in(tmp_path, materials)
    profile, bank = materials.profiles[0], workshop.bank_design
    free = {cut: dict.fromkeys(heads, 0.0) for cut, heads in profile.macs_head.items()}
    steep = profile.model_copy(update={"macs_head": free})
    pooled = bank.model_copy(update={"exits": tuple(e for e in bank.exits if e.head.kind == "linear")})
    assert part_bank(pooled, materials.backbone, steep, samples=10**9, cached=True, workers=4) == []


def test_fitting_takes_time_too(materials, tmp_path):
    """It is shared out, even where heads cost nothing to run."""
    workshop = workshop_in(tmp_path, materials)
    profile, bank = materials.profiles[0], workshop.bank_design
    free = {cut: dict.fromkeys(heads, 0.0) for cut, heads in profile.macs_head.items()}
    fitted = bank.model_copy(update={"exits": tuple(e for e in bank.exits if e.head.kind == "tree")})
    cheap = profile.model_copy(update={"macs_head": free, "macs_prefix": (0.0,) * len(profile.macs_prefix)})
    for cached in (True, False):
        parts = part_bank(fitted, materials.backbone, cheap, samples=10**9, cached=cached, workers=2)
        assert [len(part.design.exits) for part in parts] == [1, 1]
        assert all(part.cached == cached for part in parts)


def test_shards_are_whole_batches_and_cover_every_sample(materials, tmp_path):
    design = workshop_in(tmp_path, materials).bank_design
    shards = shard_table(design, "test", samples=10 * BATCH + 7, macs=1e12, workers=3)
    assert len(shards) == 6
    assert [s.first for s in shards] == [0, *(s.last for s in shards[:-1])]
    assert shards[-1].last == 10 * BATCH + 7
    assert all(s.first % BATCH == 0 for s in shards)
    assert len({s.key for s in shards}) == 6


def test_the_second_process_waits_for_the_first_and_takes_what_it_made(materials, tmp_path, monkeypatch):
    """Between look and lock another process has made the network and the table."""
    other, own = workshop_in(tmp_path, materials), workshop_in(tmp_path, materials)
    alone = own._alone

    def late(kind, key):
        other.table(other.bank_design, "cal")
        return alone(kind, key)

    monkeypatch.setattr(own, "_alone", late)
    monkeypatch.setattr(own, "_train", None)
    monkeypatch.setattr(own, "_collect", None)
    own.table(own.bank_design, "cal")
