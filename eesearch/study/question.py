"""The study file: which backbone, which data, which devices, what counts, how much may be spent."""

from __future__ import annotations

import re
from functools import partial
from itertools import chain
from operator import eq
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from eesearch.core.constraints import Constraints
from eesearch.core.design import ExitSpec, LossSpec, TrainSpec, Value
from eesearch.core.front import MAX_DROP
from eesearch.core.policy import decision_name, decision_named
from eesearch.core.registry import DRIVERS, STRATEGIES
from eesearch.costs.devices import FORMAT, is_device_name
from eesearch.costs.timer import Protocol
from eesearch.study.data import DataSpec as DataSpec
from eesearch.study.networks import BackboneSpec as BackboneSpec
from eesearch.study.networks import InputSpec as InputSpec
from eesearch.study.networks import check_networks, check_places
from eesearch.study.space import SearchSpace
from eesearch.study.systems import SystemSpec
from eesearch.study.units import Duration, Share

SAMPLERS = ("auto", "tpe", "nsga2", "nsga3", "gp", "random")
"""Names of samplers; any other by its import path."""


class Training(TrainSpec):
    """How an untrained backbone is trained; `heads` trains the bank, `joint` the designs that the search proposes.

    Attributes:
        start: Where designs start: from the trained backbone with the heads of the `bank`; from the `backbone` with
            random heads; from `scratch`, which is the plain way and dear.
        draft: Share of the training samples that the heads learn from at first, as trial 0, so that there is a front
            soon; the bank of all samples is trial 1 then. By default there is no draft.
    """

    start: Literal["bank", "backbone", "scratch"] = "bank"
    draft: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(default=None, exclude_if=partial(eq, None))
    heads: TrainSpec = TrainSpec(epochs=15, batch_size=256, lr=3e-3)
    joint: TrainSpec = TrainSpec(epochs=3, batch_size=128, optimizer="sgd", lr=1e-2)

    @property
    def backbone(self) -> TrainSpec:
        """The section of the backbone alone."""
        return TrainSpec(**self.model_dump(exclude={"heads", "joint", "start", "draft"}))


class Objectives(Value):
    """What counts.

    Attributes:
        max_drop: Fronts are valued down to this much accuracy below the backbone's.
        constraints: What every point of a front must keep on calibration; each device looks at the limits on axes
            that it knows.
    """

    max_drop: Share = MAX_DROP
    constraints: Constraints = Constraints()


class Budget(Value):
    """Totals of the study, over all its continuations.

    Attributes:
        trials: Designs, the bank and its draft included.
        timeout: Seconds during which trials ran; whatever runs then is finished first.
        samples: Training samples that go through the backbone, in all.
        solve: Seconds for one front (of a design, a device and a criterion); by default the front is solved
            exactly if that is expected to take less than a minute, and for a minute otherwise. The same again is taken
            without each of the five folds of calibration.
        max_cache_gb: Most gigabytes of cached features, in memory and on disk; beyond it the backbone runs again in
            every epoch.
    """

    trials: int = Field(default=20, ge=1)
    timeout: Duration | None = None
    samples: int | None = Field(default=None, ge=1)
    solve: Duration | None = None
    max_cache_gb: float = Field(default=16.0, gt=0.0)


class Resources(Value):
    """What a trial gets; Ray looks at it.

    Attributes:
        cpus: Threads of a training.
        gpus: A share of a GPU will do: 0.5 lets two trials share one.
        accelerator: Where trainings run: on `cuda`, in mixed precision; on the `cpu`, where the same seed gives the
            same weights bit for bit; `auto`: on CUDA if there is any.
    """

    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0.0, ge=0.0)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"


class DesignSpec(Value):
    """What `mode: design` trains.

    Attributes:
        exits: In the order of the cuts.
        scratch: Whether the whole network starts from random weights; otherwise it starts from the study's backbone.
            Heads are random either way.
        loss: How the losses of the exits are weighed and combined.
    """

    strategy: str
    exits: Annotated[tuple[ExitSpec, ...], Field(min_length=1)]
    train: TrainSpec
    loss: LossSpec = LossSpec()
    scratch: bool = False

    @model_validator(mode="after")
    def _learns(self) -> DesignSpec:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"there is no strategy '{self.strategy}'; expected one of {', '.join(sorted(STRATEGIES))}")
        if self.scratch and self.strategy == "separate":
            raise ValueError("strategy separate keeps the backbone as it is: it cannot start from random weights")
        if self.scratch and self.strategy == "distill" and self.loss.teacher == "backbone":
            raise ValueError("strategy distill has no teacher where the backbone is random: write teacher: final")
        return self


class WarmStart(Value):
    """A placement that is tried before any other; `eesearch search --warm-start FILE` reads it from a configuration.

    Attributes:
        name: Where it comes from.
        run: The run directory whose store may hold the trained design; empty: none.
        strategy: The space's first one is used if it lacks this.
        exits: In the order of the cuts.
        loss: As near to it as the space allows.
    """

    name: str
    run: str = ""
    strategy: str
    exits: tuple[ExitSpec, ...]
    loss: LossSpec = LossSpec()


class Verification(Value):
    """What a search measures again at its end, on every timed device of this machine.

    Attributes:
        points: That run end to end, with real early stopping: the one at no loss, the knee, and others far from them.
        seconds: For each, about.
    """

    points: int = Field(default=3, ge=0)
    seconds: Duration = 10.0


class Study(Value):
    """A study file. Unknown fields are refused; `eesearch schema study` prints its JSON Schema.

    Attributes:
        mode: `bank`: thresholds are solved for, exactly, on tables. `joint-trials`: the plain way others work, where
            every trial trains its design and draws its thresholds; the baseline. `design`: one design is trained.
        backbones: Networks that a sample may enter one after the other, each with exits; `backbone` is short for one.
        reference: Name of the network that all is compared with; by default the most accurate on calibration.
        design: Of `mode: design`.
        warm_start: Placements that are tried first.
        devices: `macs`, `cpu:eager:t1:b1`, the JSON file of a measured profile, or a name among `systems`; a front
            per device.
        systems: Devices in a row, joined by links, by name.
        space: A search space in full; a file may name a shipped one or a path instead.
        driver: `optuna`: every process trains what it proposes. `ray`: Ray Tune trains, on one machine or many.
        sampler: Who proposes designs: `auto` (by the budget), `tpe`, `nsga2`, `nsga3`, `gp`, `random`, or
            `package.module:Class`.
        guide: What the sampler is told of a trial's front: its `hypervolume`, its `gain` over the others', the
            `accuracies` at 25, 50 and 75 % of the cost, or a `scalarized` hypervolume.
        pruning: Who stops designs that do not look promising after some epochs: `none`, `asha`, `hyperband`, `median`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    mode: Literal["bank", "joint-trials", "design"] = "bank"
    backbones: tuple[BackboneSpec, ...]
    reference: str = Field(default="", exclude_if=partial(eq, ""))
    data: DataSpec
    input: InputSpec = InputSpec()
    training: Training = Training()
    devices: tuple[str, ...] = ("cpu:eager:t1:b1", "macs")
    systems: dict[str, SystemSpec] = Field(default_factory=dict)
    space: SearchSpace = SearchSpace()
    objectives: Objectives = Objectives()
    budget: Budget = Budget()
    measuring: Protocol = Protocol()
    verify: Verification = Verification()
    design: DesignSpec | None = None
    warm_start: tuple[WarmStart, ...] = ()
    driver: str = "optuna"
    sampler: str = "auto"
    guide: Literal["hypervolume", "gain", "accuracies", "scalarized"] = "hypervolume"
    pruning: Literal["none", "asha", "hyperband", "median"] = "none"
    resources: Resources = Resources()
    seed: int = Field(default=0, ge=0, lt=2**32)  # what scikit-learn takes

    @model_validator(mode="before")
    @classmethod
    def _one_backbone(cls, fields: Any) -> Any:
        """`backbone:` is short for `backbones:` with one entry."""
        if isinstance(fields, dict) and "backbone" in fields:
            if "backbones" in fields:
                raise ValueError("give either backbone or backbones, not both")
            if not isinstance(fields["backbone"], dict | BackboneSpec):
                raise ValueError("backbone is one network, a section of fields; write `backbones:` for a list of them")
            fields = dict(fields)
            fields["backbones"] = [fields.pop("backbone")]
        return fields

    @model_validator(mode="after")
    def _supported(self) -> Study:
        check_networks(self.backbones, self.reference, self.space, driver=self.driver)
        if len(self.backbones) > 1 and (self.mode != "bank" or self.training.start == "scratch"):
            got = f"mode {self.mode}" if self.mode != "bank" else "training.start scratch"
            raise ValueError(f"backbones: several networks are searched in mode bank, from trained ones; got {got}")
        if self.mode == "joint-trials" and not self.space.trained:
            raise ValueError("mode joint-trials needs a strategy that trains designs, such as mixed")
        scratch, strategies = self.training.start == "scratch", set(self.space.strategies)
        if self.mode == "bank" and not scratch and {"joint", "mixed"} <= strategies:
            raise ValueError("strategies joint and mixed are the same where the backbone is trained: list one of them")
        if self.mode == "joint-trials" and any(decision_named(d).memory == "all" for d in self.space.decisions):
            raise ValueError("mode joint-trials draws a threshold in [0, 1] per exit: criteria of one exit only")
        if self.mode == "bank" and scratch and "distill" in strategies and "backbone" in self.space.loss.teacher:
            raise ValueError("from scratch, distill has no trained backbone to learn from: write teacher: [final]")
        if self.training.draft is not None and (self.mode != "bank" or len(self.backbones) > 1):
            got = f"mode {self.mode}, networks: {len(self.backbones)}"
            raise ValueError(f"training.draft needs mode bank and one network; got {got}")
        if self.mode != "bank" and self.training.start != "bank":
            raise ValueError(f"training.start needs mode bank; got mode {self.mode}")
        if self.driver == "ray" and self.resources.accelerator == "cuda" and not self.resources.gpus:
            raise ValueError("resources: Ray shows a trial no GPU unless it gets one; write gpus: 1 or a share")
        if (self.mode == "design") != (self.design is not None):
            raise ValueError(f"mode design and the section `design` go together; got mode {self.mode}")
        if self.mode != "bank" and (self.pruning, self.guide) != ("none", "hypervolume"):
            raise ValueError(f"pruning and guide need mode bank; got mode {self.mode}")
        if self.space.shared_threshold and (len(self.backbones) > 1 or self.systems):
            raise ValueError("space.shared_threshold: only exits of one network on one device can share one")
        if self.warm_start and not (self.mode == "bank" and self.space.trained):
            raise ValueError("warm_start: needs mode bank and a strategy that trains designs, such as mixed")
        return self

    @model_validator(mode="after")
    def _axes_known(self) -> Study:
        """Limits and prices are about axes that a device of the study has."""
        alone = [device for device in self.devices if device not in self.systems]
        timed = any(device != "macs" for device in alone)
        priced = {"macs"} | ({"latency_ms"} if timed else set())
        priced = priced.union(*(self.systems[d].axes for d in self.devices if d in self.systems))
        known = priced | {"params", "peak_bytes"} | ({"energy_mj"} if timed else set())
        unknown = [str(limit) for limit in self.objectives.constraints.limits if limit.axis not in known]
        if unknown:
            raise ValueError(f"no device of the study can tell '{unknown[0]}'; known are {', '.join(sorted(known))}")
        limited = {limit.axis for limit in self.objectives.constraints.limits} - {"params", "peak_bytes"}
        missing = (priced | limited) - self.space.last_resort.keys()
        if self.space.last_resort and missing:
            raise ValueError(f"last_resort has no price in {', '.join(sorted(missing))}")
        return self

    @field_validator("systems")
    @classmethod
    def _systems_named(cls, systems: dict[str, SystemSpec]) -> dict[str, SystemSpec]:
        for name in systems:
            if is_device_name(name):
                raise ValueError(f"'{name}' is the name of a device: call the system otherwise")
            if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name) is None:
                raise ValueError(f"'{name}' is no name for a system; expected letters, digits, _, . and -")
        return systems

    @model_validator(mode="after")
    def _devices_named(self) -> Study:
        if not self.devices or len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices: they must be distinct and at least one; got {list(self.devices)}")
        for name in self.devices:
            if not is_device_name(name) and name not in self.systems:
                raise ValueError(f"devices: '{name}' is not a device; expected {FORMAT}, or a name among systems")
        if len(self.backbones) > 1:
            check_places(self.networks, self.systems)
        return self

    @field_validator("driver")
    @classmethod
    def _driver_known(cls, driver: str) -> str:
        if driver not in DRIVERS:
            raise ValueError(f"there is no driver '{driver}'; expected one of {', '.join(sorted(DRIVERS))}")
        return driver

    @field_validator("sampler")
    @classmethod
    def _sampler_known(cls, sampler: str) -> str:
        if sampler not in SAMPLERS and ":" not in sampler:
            raise ValueError(f"there is no sampler '{sampler}'; expected one of {', '.join(SAMPLERS)}, or module:Class")
        return sampler

    @property
    def decisions(self) -> tuple[str, ...]:
        """Names of all decisions that policies may take, as devices measure them; see `SearchSpace.decisions`."""
        if self.design is None:
            return self.space.decisions
        own = (decision_name(*pair) for pair in self.space.scorings_of(self.design.strategy, self.design.loss))
        return tuple(dict.fromkeys([*self.space.decisions, *own]))

    @property
    def measured(self) -> tuple[str, ...]:
        """All devices that a profile is needed of: those of the study, and in place of systems those of their tiers."""
        named = ([t.device for t in self.systems[d].tiers] if d in self.systems else [d] for d in self.devices)
        return tuple(dict.fromkeys(chain(*named)))

    @property
    def backbone(self) -> BackboneSpec:
        """The network that is searched; of several, the reference, or the first that may be if none is named."""
        fixed = [spec for spec in self.backbones if not spec.vary]
        return next((spec for spec in fixed if spec.name == self.reference), fixed[0])

    @property
    def proposes(self) -> bool:
        """Whether there is more to try than the bank, or one design."""
        return self.mode != "design" and bool(self.space.trained or any(spec.vary for spec in self.backbones))

    @property
    def trials(self) -> int:
        """How many there are at most."""
        banks = 1 if self.training.draft is None else 2
        return max(self.budget.trials, banks) if self.proposes else banks

    @property
    def networks(self) -> tuple[BackboneSpec, ...]:
        """Every network that a policy may enter: with all variants of those that are searched themselves."""
        return tuple(chain(*(spec.variants for spec in self.backbones)))

    def of(self, network: BackboneSpec) -> Study:
        """The same question about one of its networks alone; of several, with that network's boundaries only."""
        changes = {
            "backbones": (network,),
            "reference": "",
            "warm_start": (),
            "input": network.input or self.input,
            "space": self.space.model_copy(update={"cuts": network.cuts or self.space.cuts}),
        }
        if len(self.backbones) > 1:
            changes["systems"] = {name: system.within(network.name) for name, system in self.systems.items()}
        return self.model_copy(update=changes)


FREE_TO_CHANGE = (
    "budget", "devices", "systems", "objectives", "warm_start", "driver", "sampler", "guide", "pruning", "resources",
    "verify",
)  # fmt: skip
"""Sections that may differ when a study is continued."""


def differences(old: Study, new: Study) -> list[tuple[str, object, object]]:
    """Fields that forbid continuing `old` as `new`: (path, old value, new value).

    Of files only the names count: they may have moved, and what they hold is compared by `RunDir.check_inputs`.
    """
    found: list[tuple[str, object, object]] = []

    def walk(path: str, a: object, b: object) -> None:
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            a, b = dict(enumerate(a)), dict(enumerate(b))
        if isinstance(a, dict) and isinstance(b, dict):
            for name in sorted(a.keys() | b.keys()):
                walk(f"{path}.{name}" if path else str(name), a.get(name), b.get(name))
        elif a != b and not _moved(a, b):
            found.append((path, a, b))

    exclude = set(FREE_TO_CHANGE)
    walk("", old.model_dump(mode="json", exclude=exclude), new.model_dump(mode="json", exclude=exclude))
    return found


def _moved(a: object, b: object) -> bool:
    """Whether these are paths of a file or folder of one name, absolute as `study.yaml` has them."""
    if not (isinstance(a, str) and isinstance(b, str)):
        return False
    old, new = (Path(path.removeprefix("hf:")) for path in (a, b))
    return (old.is_absolute() or new.is_absolute()) and old.name == new.name
