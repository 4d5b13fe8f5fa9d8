"""What a search would do, and what its trainings will take, before anything is trained."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.design import Design, ExitSpec, HeadSpec
from eesearch.core.registry import STRATEGIES
from eesearch.costs.devices import parse_device
from eesearch.costs.figures import estimate_seconds
from eesearch.costs.profile import profile
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import Backbone
from eesearch.study.drafts import draft_rows
from eesearch.study.measured import measured_networks
from eesearch.study.networks import BackboneSpec
from eesearch.study.profiling import Network, require_devices
from eesearch.study.question import DesignSpec, Study
from eesearch.study.rundir import RunDir
from eesearch.training.bank import build_heads, count_samples, plan_cache
from eesearch.training.cache import CACHING, Caching
from eesearch.training.data import Dataset
from eesearch.training.plans import Work, cached_bytes, count_work


@dataclass(frozen=True)
class PlannedCut:
    """A place where exits may hang.

    Attributes:
        share: Of its network's MACs, from the input to here.
        heads: Names of the head designs that fit.
    """

    name: str
    shape: tuple[int, ...]
    share: float
    heads: tuple[str, ...]


@dataclass(frozen=True)
class PlannedNetwork:
    """What a search would do with a network.

    Attributes:
        macs: Multiply-adds of the whole network for one sample.
        cuts: None where it may have no exits.
        cache_bytes: Size of the hidden states that its bank reads, and may cache.
        samples: Training samples that go through it: for the bank and its draft, and for a design of the strategy that
            takes most; 0 if there is none.
        seconds: Estimates by phase; of the trained designs, of one.
        varies: Whether its size is searched; then a design of it is one more network, trained and with its bank.
        design_cache_bytes: Of the design that caches most.
    """

    name: str
    macs: float
    cuts: tuple[PlannedCut, ...]
    cache_bytes: int
    samples: tuple[int, int]
    seconds: dict[str, float]
    varies: bool = False
    design_cache_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """What a search would do.

    Attributes:
        networks: In the order of the study.
        trials: How many designs the budget allows, the bank and its draft included.
        seconds: Estimates by phase.
        caching: How much may be cached, and where.
        banks: How many trials train no design: the bank, and its draft.
    """

    networks: tuple[PlannedNetwork, ...]
    trials: int
    seconds: dict[str, float]
    caching: Caching = CACHING
    banks: int = 1

    @property
    def cuts(self) -> tuple[PlannedCut, ...]:
        """Of all networks."""
        return tuple(cut for network in self.networks for cut in network.cuts)

    @property
    def cache_bytes(self) -> int:
        """Most bytes of hidden states that a bank reads: banks are trained one after the other."""
        return max(network.cache_bytes for network in self.networks)

    @property
    def design_cache_bytes(self) -> int:
        """Most bytes of hidden states that a design caches at a time."""
        return max(network.design_cache_bytes for network in self.networks)

    @property
    def samples(self) -> tuple[int, int]:
        """Training samples that go through the networks: for all banks, and for a design; see `PlannedNetwork`."""
        return _samples(self.networks)


def _samples(networks: Sequence[PlannedNetwork]) -> tuple[int, int]:
    banks, designs = zip(*(each.samples for each in networks), strict=True)
    return sum(banks), round(_of_design(networks, designs))


def _of_design(networks: Sequence[PlannedNetwork], each: Sequence[float]) -> float:
    """What a further trial takes, given what it would take of each network.

    It trains one network together with its exits, and all whose sizes are searched.
    """
    pairs = list(zip(networks, each, strict=True))
    single = max((taken for network, taken in pairs if not network.varies), default=0)
    return single + sum(taken for network, taken in pairs if network.varies)


def plan(study: Study, run: Path | None = None) -> Plan:
    """Look at a study without running it; a few batches are timed for the estimates.

    Args:
        study: The question.
        run: Where it would run, and cache what is large; nothing is written there. None: `runs/<name of the study>`.

    Raises:
        InputError: of the part that cannot be used.
    """
    require_devices(study)
    dataset, networks = measured_networks(study)
    draft_rows(study, dataset.train.y)  # refused now, if at all
    caching = Caching(study.budget.max_cache_gb, RunDir(run or Path("runs") / study.name).cache)
    planned = tuple(_planned(study, spec, networks, dataset, caching) for spec in study.backbones)
    trials = _trials(study, *_samples(planned))
    seconds: Counter[str] = Counter()
    for network in planned:
        seconds.update(network.seconds)
    del seconds[DESIGNS]
    here = sum(d not in study.systems and parse_device(d).timed for d in study.devices)
    verified = here * study.verify.points * study.verify.seconds
    designs = _of_design(planned, [network.seconds[DESIGNS] for network in planned]) * (trials - len(_banks(study)))
    return Plan(planned, trials, {**seconds, DESIGNS: designs, "verify": verified}, caching, len(_banks(study)))


DESIGNS = "trained designs"
"""The phase that grows with the number of trials."""


def _planned(
    study: Study, spec: BackboneSpec, networks: Mapping[str, Network], dataset: Dataset, caching: Caching
) -> PlannedNetwork:
    first, decisions = spec.proposed({}).name, study.decisions
    backbone, heads = networks[first]
    heads = heads if spec.exits else {}
    macs = profile(backbone, {}, "macs", decisions=decisions).macs_prefix
    cuts = tuple(
        PlannedCut(cut.name, cut.shape, macs[k] / macs[-1], tuple(h.name for h in heads[cut.name]))
        for k, cut in enumerate(backbone.cuts)
        if cut.name in heads
    )
    exits = [ExitSpec(cut=cut, head=head) for cut, specs in heads.items() for head in specs if _banks(study)]
    samples, collected = len(dataset.train), len(dataset.cal) + len(dataset.test)
    forward, step = _seconds_per_sample(backbone, dataset.train.x)
    alone = heads if not spec.vary else {}
    works = expected_work(study, backbone, alone, samples).values()
    back, passes = step - forward, len(works) * len(backbone.segments)
    learning = sum(back * work.backward + forward * work.forward for work in works) / max(passes, 1)
    cached, epochs = plan_cache(backbone, exits, samples), study.training.heads.epochs
    limit = 0.0 if caching.place(cached).kind == "nowhere" else caching.max_gb
    passed = count_samples(backbone, exits, samples, epochs=epochs, max_cache_gb=limit)
    timed = [
        estimate_seconds(*networks[variant.name], device, decisions=decisions, protocol=study.measuring)
        for variant in spec.variants
        for device in study.measured
    ]
    trained = samples * study.training.epochs
    seconds = {
        "train backbone": 0.0 if spec.is_trained else step * trained,
        "profile": sum(timed),
        **{name: forward * (share * passed + collected) for name, share in _banks(study)},
        DESIGNS: learning + forward * collected,
    }
    draft = study.training.draft or 0.0
    used = round((1.0 + draft) * passed), max((work.samples for work in works), default=0)
    if spec.vary:
        seconds[DESIGNS] = seconds["train backbone"] + forward * (passed + collected)
        used = passed, trained + passed
    of_design = expected_cache(study, backbone, alone, samples)
    return PlannedNetwork(first, macs[-1], cuts, cached, used, seconds, bool(spec.vary), of_design)


def _banks(study: Study) -> list[tuple[str, float]]:
    """The trials that train no design: what they are called here, and the share of the samples that they learn from."""
    draft = study.training.draft
    if study.mode != "bank":
        return []
    return [("bank (trial 0)", 1.0)] if draft is None else [("draft (trial 0)", draft), ("bank (trial 1)", 1.0)]


def _trials(study: Study, bank: int, design: int) -> int:
    """How many trials the budget of a study allows, given the training samples of the banks and of a design."""
    samples, first = study.budget.samples, len(_banks(study))
    if samples is None:
        return study.trials
    return min(study.trials, first + max(0, ceil((samples - bank) / max(design, 1))))


def _seconds_per_sample(backbone: Backbone, x: NDArray[np.generic], batch: int = 128) -> tuple[float, float]:
    """A forward pass, and a training step, on one batch after a warm-up."""
    inputs = torch.from_numpy(np.array(x[:batch]))
    trained = copy.deepcopy(backbone)

    def forward() -> None:
        with torch.inference_mode():
            backbone(inputs)

    def step() -> None:
        trained.requires_grad_(True)
        trained(inputs).sum().backward()

    times = []
    for work in (forward, step):
        work()
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) / len(inputs))
    return times[0], times[1]


def expected_work(
    study: Study, backbone: Backbone, heads: Mapping[str, Sequence[HeadSpec]], samples: int
) -> dict[str, Work]:
    """What a design takes, by the strategy that trains it: that of `mode: design`, or one with an exit at every cut.

    Args:
        study: Names strategies, and how long they train.
        backbone: Cut where the space allows.
        heads: That fit each cut.
        samples: In the training split.
    """
    limit = study.budget.max_cache_gb

    def work(net: ExitNet, design: Design) -> Work:
        if design.strategy != "separate":
            return count_work(net, design, samples)
        epochs = design.train.epochs  # its heads learn from cached hidden states, as those of a bank
        passed = count_samples(backbone, design.exits, samples, epochs=epochs, max_cache_gb=limit)
        return Work(epochs, epochs, passed, passed * len(backbone.segments), 0)

    return {design.strategy: work(net, design) for net, design in _expected_designs(study, backbone, heads)}


def expected_cache(study: Study, backbone: Backbone, heads: Mapping[str, Sequence[HeadSpec]], samples: int) -> int:
    """Bytes of hidden states that the design caches which caches most, of those of `expected_work`."""
    each = (
        plan_cache(backbone, design.exits, samples)
        if design.strategy == "separate"
        else samples * cached_bytes(net, design)
        for net, design in _expected_designs(study, backbone, heads)
    )
    return max(each, default=0)


def _expected_designs(
    study: Study, backbone: Backbone, heads: Mapping[str, Sequence[HeadSpec]]
) -> Iterator[tuple[ExitNet, Design]]:
    for asked in [study.design] if study.design else _full_designs(study, heads):
        net = ExitNet(backbone, build_heads(backbone, asked.exits, study.seed))
        design = Design(
            backbone="",
            data="",
            strategy=asked.strategy,
            exits=asked.exits,
            train=asked.train,
            loss=asked.loss.model_copy(update={"costs": (1.0,) * len(net.exits)}),
            before=study.training.backbone if asked.scratch else None,
        )
        yield net, design


def _full_designs(study: Study, heads: Mapping[str, Sequence[HeadSpec]]) -> list[DesignSpec]:
    """One of each strategy that trains designs, with an exit at every cut."""
    exits = tuple(ExitSpec(cut=cut, head=designs[0]) for cut, designs in heads.items())
    training, scratch, loss = study.training, study.training.start == "scratch", study.space.loss.spec({})
    alone = {s: scratch and "before" not in STRATEGIES[s].uses for s in study.space.trained if heads}
    return [
        DesignSpec(
            strategy=strategy,
            exits=exits,
            train=training.backbone if only else training.joint,
            loss=loss,
            scratch=scratch,
        )
        for strategy, only in alone.items()
    ]
