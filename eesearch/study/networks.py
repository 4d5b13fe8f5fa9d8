"""Networks of a study file: one, or several that a sample may enter one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from operator import eq
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from eesearch.core.design import Value
from eesearch.core.registry import STRATEGIES
from eesearch.study.space import NO_EXIT, Choice, CutSpace, SearchSpace
from eesearch.study.systems import SystemSpec

MOST_NETWORKS = 8
"""The paths through all orders of more would be too many."""

MOST_VARIANTS = 64
"""Each is measured on every device before the first trial."""

Option = StrictBool | StrictInt | StrictFloat | StrictStr


class InputSpec(Value):
    """Preprocessing: (x * scale - mean) / std per channel; part of the network's first segment.

    Attributes:
        resize: Height and width that images are brought to then.
        views: Whether a sample is several views of one size, [V, C, H, W]; one whose values are all 0 is missing, and
            stays 0.
        tokens: Whether samples are numbers of tokens, handed on as they are; text is that by itself.
        normalize: `given`: by the fields above; `model`: 8-bit images as the network of timm, torchvision or
            transformers was trained on them.
    """

    scale: float = Field(default=1.0, gt=0.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: tuple[PositiveInt, PositiveInt] | None = Field(default=None, exclude_if=partial(eq, None))
    views: bool = Field(default=False, exclude_if=partial(eq, False))
    tokens: bool = Field(default=False, exclude_if=partial(eq, False))
    normalize: Literal["given", "model"] = Field(default="given", exclude_if=partial(eq, "given"))

    @model_validator(mode="after")
    def _one_of_both(self) -> InputSpec:
        if self.normalize == "model" and (self.scale, self.mean, self.std) != (1.0, (), ()):
            raise ValueError("normalize: model says scale, mean and std: leave them out")
        if self.views and self.resize:
            raise ValueError("views are not resized: leave out resize, or bring them to one size in the data")
        return self


class BackboneSpec(Value):
    """One network.

    Attributes:
        name: Among several, it stands before the name of each cut: `resnet8/layer1.0`.
        model: `timm:NAME`, `torchvision:NAME`, `hf:FOLDER-or-NAME`, or `package.module:function`; made with `args`, it
            is an `nn.Module` that maps [N, ...] to [N, C].
        weights: A safetensors file, or a state dict that `torch.load(weights_only=True)` reads; none: the network is
            trained first, by the study's `training` section, unless it `is_trained`.
        trained: Whether it is trained as it is made, without a file of weights. `hf:` is, unless it has the argument
            `pretrained: false`; `timm:` is with `pretrained: true`, `torchvision:` with `weights`.
        input: Its own preprocessing; the study's, where it has none.
        classes: Number, in the data, of the class that each output stands for, where they come in another order.
        cuts: Where its exits may hang; where the space says, unless it has cuts of its own.
        exits: Whether it may have early exits; a network without them is answered by as a whole.
        vary: Arguments of `model` that are searched (as Stamoulis et al. 2018 search widths and depths), with their
            options: every trial trains the variant that it proposes, beside the other networks.
    """

    name: str = Field(default="backbone", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: str
    args: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    trained: bool = Field(default=False, exclude_if=partial(eq, False))
    input: InputSpec | None = Field(default=None, exclude_if=partial(eq, None))
    classes: tuple[int, ...] = Field(default=(), exclude_if=partial(eq, ()))
    cuts: CutSpace | None = Field(default=None, exclude_if=partial(eq, None))
    exits: bool = Field(default=True, exclude_if=partial(eq, True))
    vary: dict[str, Annotated[tuple[Option, ...], Field(min_length=2)]] = Field(
        default_factory=dict, exclude_if=partial(eq, {})
    )

    @field_validator("vary", mode="before")
    @classmethod
    def _listed(cls, vary: object) -> object:
        for name, options in vary.items() if isinstance(vary, dict) else ():
            if not isinstance(options, list | tuple) or not all(isinstance(o, int | float | str) for o in options):
                raise ValueError(f"the options of '{name}' are a list of numbers or words: [8, 16]; got {options!r}")
        return vary

    @field_validator("vary")
    @classmethod
    def _distinct(cls, vary: dict[str, tuple[Option, ...]]) -> dict[str, tuple[Option, ...]]:
        for name, options in vary.items():
            if len(set(map(str, options))) < len(options):
                raise ValueError(f"the options of '{name}' must be distinct; got {list(options)}")
        return vary

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[int, ...]) -> tuple[int, ...]:
        if sorted(classes) != list(range(len(classes))):
            raise ValueError(f"each number from 0 to {len(classes) - 1} must stand there once; got {list(classes)}")
        return classes

    @model_validator(mode="after")
    def _trained_here(self) -> BackboneSpec:
        twice = sorted(self.vary.keys() & self.args.keys())
        if twice:
            raise ValueError(f"network '{self.name}': '{twice[0]}' stands in args and in vary; leave one of them out")
        if self.vary and self.is_trained:
            raise ValueError(f"network '{self.name}' has weights: they would fit one variant only; leave out vary")
        return self

    @property
    def is_trained(self) -> bool:
        """Whether it comes with weights, so that nothing trains it first."""
        of_library = bool(self.args.get("pretrained", self.model.startswith("hf:")) or self.args.get("weights"))
        return self.trained or self.weights is not None or of_library

    @property
    def bare(self) -> BackboneSpec:
        """The same without weights of its own, if what makes it can do without."""
        args = {name: value for name, value in self.args.items() if name not in ("pretrained", "weights")}
        args |= {"pretrained": False} if self.model.startswith("hf:") else {}
        of_library = self.model.partition(":")[0] in ("timm", "torchvision", "hf")
        return self.model_copy(update={"weights": None, "args": args if of_library else self.args})

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What is searched of it, as parameters of a trial."""
        return tuple(Choice(f"{self.name}:{arg}", tuple(map(str, options))) for arg, options in self.vary.items())

    @property
    def variants(self) -> tuple[BackboneSpec, ...]:
        """Every network that it may be; itself, if nothing of it is searched."""
        return tuple(self._variant(dict(zip(self.vary, each, strict=True))) for each in product(*self.vary.values()))

    def proposed(self, params: Mapping[str, str | float]) -> BackboneSpec:
        """The variant that a trial proposes; where it says nothing, that of the middle options."""
        chosen = {}
        for arg, options in self.vary.items():
            told = params.get(f"{self.name}:{arg}", str(options[len(options) // 2]))
            chosen[arg] = next(option for option in options if str(option) == told)
        return self._variant(chosen)

    def _variant(self, chosen: Mapping[str, Option]) -> BackboneSpec:
        name = ".".join([self.name, *(f"{arg}-{option}" for arg, option in chosen.items())])
        return self.model_copy(update={"name": name, "args": {**self.args, **chosen}, "vary": {}})


def check_networks(networks: Sequence[BackboneSpec], reference: str, space: SearchSpace, *, driver: str) -> None:
    """Refuse what several networks cannot do, or cannot be.

    Args:
        networks: Of the study.
        reference: Name of the one that all is compared with; "": the most accurate.
        space: Of the study.
        driver: Of the study.

    Raises:
        ValueError: so.
    """
    names = [spec.name for spec in networks]
    if not names or len(names) > MOST_NETWORKS:
        raise ValueError(f"backbones: from 1 to {MOST_NETWORKS} networks can be searched; got {len(names)}")
    if reference and reference not in names:
        raise ValueError(f"reference: there is no network '{reference}'; expected one of {', '.join(names)}")
    fixed = [spec.name for spec in networks if not spec.vary]
    if not fixed or reference not in ["", *fixed]:
        raise ValueError("reference: all is compared with a network whose args do not vary; add one, and name it")
    if len(names) == 1:
        _check_alone(networks[0])
        return
    known = [variant.name for spec in networks for variant in spec.variants]
    for name in known:
        if known.count(name) > 1:
            raise ValueError(f"backbones: networks need names of their own; got '{name}' twice")
    if NO_EXIT in known:
        raise ValueError(f"backbones: '{NO_EXIT}' means no network; call it otherwise")
    if len(known) > MOST_VARIANTS:
        raise ValueError(f"backbones: {len(known)} variants are too many to measure; at most {MOST_VARIANTS}")
    if driver == "ray":
        raise ValueError("backbones: driver ray trains one network so far; write driver: optuna")
    own = [s for s in space.trained if any(STRATEGIES[s].scorings(loss) for loss in space.loss.options())]
    if own:
        raise ValueError(f"strategies: what '{own[0]}' learns is about the exits of one network; leave it out")


def _check_alone(spec: BackboneSpec) -> None:
    """Refuse what only one among several networks has: the study says it of one alone."""
    if spec.input is not None:
        raise ValueError("backbone.input is for one among several networks: write it under `input`")
    if spec.cuts is not None:
        raise ValueError("backbone.cuts is for one among several networks: write it under `space.cuts`")
    if not spec.exits:
        raise ValueError("backbone.exits: one network without exits leaves nothing to search")


def check_places(networks: Sequence[BackboneSpec], systems: Mapping[str, SystemSpec]) -> None:
    """Refuse systems that several networks cannot run on.

    Args:
        networks: Of the study.
        systems: Of the study, by name.

    Raises:
        ValueError: so.
    """
    names = [spec.name for spec in networks]
    for name, system in systems.items():
        foreign = [cut for cut in system.boundaries if cut.partition("/")[0] not in names]
        if foreign:
            raise ValueError(
                f"systems.{name}.boundaries: '{foreign[0]}' names no network; "
                f"expected NETWORK/CUT with one of {', '.join(names)}"
            )
