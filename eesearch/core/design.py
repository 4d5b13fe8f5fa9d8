"""What must be trained: heads, exits, training sections, designs, and their content keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import eq
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from eesearch.core.errors import StoreError
from eesearch.core.registry import STRATEGIES

OUTPUT = "output"
"""The cut name of a network's own classifier; `NAME/output` of one among several networks, as of all its cuts."""

OWN = "own"
"""The head name of a network's own classifier."""

NOTHING = "none"
"""The head that says nothing, costs nothing and lets nobody leave: where a sample may cross to another tier."""

LAST_RESORT = "last resort"
"""The cut name of whoever is asked when no network is sure: a person, the cloud. Part of no network."""


class Value(BaseModel):
    """A frozen value that writes itself as JSON and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def content_key(*parts: object) -> str:
    """Hash JSON-able parts to 16 hex digits; equal parts give equal keys on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


Pool = Literal["none", "avg", "mixed", "first", "last"]


class TapSpec(Value):
    """What a head reads of the hidden state at its cut.

    `pool="none"` is the tap as it is. `avg` pools a map [N, C, H, W] to [N, C, p, p]; `mixed` concatenates the average-
    and the max-pooled map to [N, 2C, p, p]. Tokens or a sequence [N, T, D] are pooled to [N, D, p] or [N, 2D, p]; where
    p = 1, their average is that of those which are not all 0, as padding is. `first` reads the first token alone
    (CLS), `last` the last time step: [N, D, 1]. A vector [N, D] is never pooled. Of several views [N, V, C, H, W] each
    map is pooled, to [N, V, ...]; if `joined`, they are one map [N, V C, H, W] first.
    """

    pool: Pool = "avg"
    size: int = Field(default=1, ge=1, le=4)
    joined: bool = False


class HeadSpec(Value):
    """The design of one head (auxiliary classifier c_i, eq. 3 of the survey).

    Attributes:
        kind: A name in the HEADS registry: `linear`, `mlp`, `conv`, `dsconv`; fitted by scikit-learn rather than
            trained: `logistic`, `svm`, `tree`, `boosting`; `none` says nothing, and is never trained.
        pool: How a map, tokens or a sequence are pooled before the head reads them; `none` (conv and dsconv only) reads
            the full map, `first` the first token, `last` the last step of a sequence.
        size: The side p of the pooled map, 1 to 4.
        hidden: Widths of the hidden layers (mlp: one or two).
        channels: Channels of the convolution (conv, dsconv).
        depth: Of each tree (tree, boosting).
        rounds: How many trees per class (boosting).
        gate: What tells how sure the head is, beyond its probabilities (g_i, eq. 9): a `linear` or `mlp` gate on what
            the head reads and says. It is learnt with the head.
        views: How a head at a cut of several views joins them (DDNN, Teerapittayanon et al. 2017): the `max` or
            `average` of the class scores that a head per view gives, over the views that are there; or one head on the
            `concat` of what is read of all. At other cuts it means nothing.
    """

    kind: str = "linear"
    pool: Pool = "avg"
    size: int = Field(default=1, ge=1, le=4)
    hidden: tuple[int, ...] = ()
    channels: int = Field(default=32, ge=1)
    depth: int = Field(default=5, ge=1, le=8)
    rounds: int = Field(default=10, ge=1, le=100)
    gate: Literal["none", "linear", "mlp"] = "none"
    views: Literal["max", "average", "concat"] = Field(default="max", exclude_if=partial(eq, "max"))

    @property
    def tap(self) -> TapSpec:
        """What this head reads."""
        size = self.size if self.pool in ("avg", "mixed") else 1
        return TapSpec(pool=self.pool, size=size, joined=self.views == "concat")

    @property
    def name(self) -> str:
        """A short unique name, such as `linear-avg1`, `mlp64-mixed2`, `conv32-map`, `boosting10x3-avg1-concat`."""
        widths = {
            "mlp": "x".join(map(str, self.hidden)),
            **dict.fromkeys(("conv", "dsconv"), str(self.channels)),
            "tree": str(self.depth),
            "boosting": f"{self.rounds}x{self.depth}",
        }
        gate = {"none": "", "linear": "-gate", "mlp": "-mlpgate"}[self.gate]
        if self.kind == NOTHING:
            return NOTHING
        pool = {"none": "map", "first": "first", "last": "last"}.get(self.pool, f"{self.pool}{self.size}")
        views = "" if self.views == "max" else f"-{self.views}"
        return f"{self.kind}{widths.get(self.kind, '')}-{pool}{gate}{views}"


class ExitSpec(Value):
    """One early exit of a design: head `head` after cut `cut`, its companion loss weighted by alpha (eq. 6)."""

    cut: str
    head: HeadSpec
    alpha: float = Field(default=1.0, ge=0.0)


class TrainSpec(Value):
    """One training section.

    Attributes:
        lr: Learning rate at the start of the schedule.
        schedule: `constant`, or annealed to 0 by `cosine` or `linear`, per step.
        augment: Random transformations of a batch of images: `flip` (left-right), `crop` (4 pixels of zero padding).
    """

    epochs: int = Field(default=10, ge=0)
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    augment: tuple[Literal["flip", "crop"], ...] = ()


class LossSpec(Value):
    """How a design's losses are weighed and combined; each strategy uses some of these (`Strategy.uses`).

    Attributes:
        ramp: How the weight of each companion loss moves: it is `constant`; it rises from 0 to alpha, `linear` in the
            steps or as half a `cosine`; or as in SDN (Kaya et al. 2019) it rises linearly from 0.01 to alpha, which is
            then the exit's relative cost.
        combine: How predictions are combined (eq. 8): with trained weights that are convex (`softmax`) or `free`; their
            `average`, or their `max` (DDNN, Teerapittayanon et al. 2017).
        cost_weight: lambda, the weight of the expected cost (eq. 13), in losses per cost of the backbone.
        distill: Share of an exit's loss that comes from its teacher.
        temperature: That probabilities of teacher and exit are softened with (Hinton et al. 2015).
        teacher: From whom exits learn: the `backbone` as it was before the training, or the `final` exit as it is.
        freeze: When a part has learnt enough (eq. 10): after times that grow as a `linear` or `cubic` function of its
            depth.
        costs: Of leaving at each exit, the own classifier last, where no exit is left out; in costs of the backbone.
            [E + 1]
    """

    ramp: Literal["constant", "linear", "cosine", "sdn"] = "constant"
    combine: Literal["softmax", "free", "average", "max"] = "softmax"
    cost_weight: float = Field(default=0.1, ge=0.0)
    distill: float = Field(default=0.5, ge=0.0, le=1.0)
    temperature: float = Field(default=3.0, gt=0.0)
    teacher: Literal["backbone", "final"] = "backbone"
    freeze: Literal["linear", "cubic"] = "cubic"
    costs: tuple[float, ...] = ()


class Design(Value):
    """What one training run makes: a placement of heads, and how they are trained.

    Attributes:
        backbone: Key of the backbone before training (its code and weights, preprocessing included).
        data: Content hash of the training split.
        strategy: A name in the STRATEGIES registry.
        exits: At least one, in the order of the cuts; a cut may carry several heads.
        train: The training section of this strategy.
        seed: Seed of the initial weights and of the order of the samples.
        start: Key of the design whose heads this one starts from; "": from random ones.
        loss: How the losses of its exits are weighed and combined.
        before: How the backbone is trained first, by strategies that want a trained one; None: it is.
    """

    backbone: str
    data: str
    strategy: str
    exits: tuple[ExitSpec, ...]
    train: TrainSpec
    seed: int = 0
    start: str = ""
    loss: LossSpec = LossSpec()
    before: TrainSpec | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Design:
        names = [(e.cut, e.head.name) for e in self.exits]
        if not names:
            raise ValueError("a design needs at least one exit")
        if len(set(names)) < len(names):
            raise ValueError("a design may carry each head only once per cut")
        return self

    @property
    def key(self) -> str:
        """Content key: equal iff training gives the same network; fields that the strategy ignores do not count."""
        fields, uses = self.model_dump(mode="json"), STRATEGIES[self.strategy].uses
        if "alpha" not in uses:
            for exit_fields in fields["exits"]:
                exit_fields.pop("alpha")
        if "before" not in uses:
            fields.pop("before")
        fields["loss"] = {name: value for name, value in fields["loss"].items() if name in uses}
        return content_key(fields)


class Cascade(Design):
    """Designs of several networks side by side, any of which a policy may enter: as one design.

    Its own fields tell what was trained beyond the banks, if anything was, or else the bank of the reference; its exits
    are those of all members, whose cuts bear the names of their networks.

    Attributes:
        members: Name of each network that has exits -> what was trained.
        whole: Name of each network that has none -> key of the network.
        reference: Name of the network that all is compared with.
    """

    members: dict[str, Design]
    whole: dict[str, str]
    reference: str

    @model_validator(mode="after")
    def _distinct(self) -> Cascade:
        if self.reference not in self.networks:
            raise ValueError(f"there is no network '{self.reference}' in the cascade")
        return self

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks."""
        return (*self.members, *self.whole)

    @property
    def keeps_reference(self) -> bool:
        """Whether the network that all is compared with was not trained any further."""
        return self.reference in self.whole or self.members[self.reference].strategy == "separate"

    @property
    def key(self) -> str:
        """Content key: equal iff all members are."""
        designs = {name: design.key for name, design in self.members.items()}
        return content_key("cascade", designs, self.whole, self.reference)


def with_reference(designs: Iterable[Design]) -> Cascade | None:
    """The first cascade whose reference was not trained any further: where the unmodified network is to be found."""
    return next((each for each in designs if isinstance(each, Cascade) and each.keeps_reference), None)


def trained_alone(design: Design) -> Design:
    """What was trained as a whole: of a cascade, the network that was trained together with its exits."""
    members = design.members.values() if isinstance(design, Cascade) else ()
    return next((member for member in members if member.strategy != "separate"), design)


def _as_cascade(fields: object) -> object:
    return Cascade.model_validate(fields) if isinstance(fields, Mapping) and "members" in fields else fields


AnyDesign = Annotated[SerializeAsAny[Design], BeforeValidator(_as_cascade)]
"""A design, or a cascade of them, as a field of a value that is written and read again."""


LINK = r"""^(8bit@[^"'\\{}#\x00-\x1f\x7f\x{2028}\x{2029}]+)?$"""
"""Of links: whatever modules are called, and nothing that would end a string or comment of exported code."""


class ExitId(Value):
    """One exit of one trained network.

    Attributes:
        network: Key of the backbone's weights after training; all `separate` designs share one network.
        cut: Name of the cut, or `OUTPUT` for the network's own classifier; where a study has several networks, behind
            the network's name: `resnet8/layer1.0`, `resnet8/output`.
        head: Name of the head, or `OWN`, or `NOTHING`.
        tier: Where it runs, in a system of several tiers; "": on the first, or the only one.
        link: How the samples came here if their carry was coded on the way: `8bit@<cut>`; "": as they are.
    """

    network: str
    cut: str
    head: str
    tier: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$", exclude_if=partial(eq, ""))
    link: str = Field(default="", pattern=LINK, exclude_if=partial(eq, ""))

    @property
    def is_output(self) -> bool:
        """Whether this is the network's own classifier."""
        return self.head == OWN and not self.is_last_resort

    @property
    def is_last_resort(self) -> bool:
        """Whether the sample is handed on, to a person or to the cloud."""
        return self.cut == LAST_RESORT

    @property
    def is_none(self) -> bool:
        """Whether nothing is said here: a sample only goes on, maybe on another tier."""
        return self.head == NOTHING

    @property
    def bare(self) -> ExitId:
        """The exit of the network, wherever it runs and however samples come there."""
        return self if not (self.tier or self.link) else ExitId(network=self.network, cut=self.cut, head=self.head)

    def __str__(self) -> str:
        placed = f"@{self.tier}" if self.tier else ""
        return f"{self.network}:{self.cut}:{self.head}{placed}{' ' if self.link else ''}{self.link}"


def read_exits(text: str) -> tuple[ExitId, ...]:
    """The exits of a table or fit, as the store keeps them in its metadata.

    Raises:
        StoreError: there are none, or what is there is not written by eesearch.
    """
    try:
        return tuple(ExitId(**fields) for fields in json.loads(text))
    except (ValueError, TypeError) as error:  # pydantic's, too
        raise StoreError("a table or fit of the store has exits that are none", got=error) from None


def place_of(exit_id: ExitId) -> tuple[str, ...]:
    """What tells exits apart, as a key that is quick to hash."""
    return exit_id.network, exit_id.cut, exit_id.head, exit_id.tier, exit_id.link


def rows_of(exits: Sequence[ExitId]) -> dict[tuple[str, ...], int]:
    """Row of each exit, by its place; the first of an exit's rows, which lie on several tiers, goes without tier too.

    So whoever knows of no tiers means the first one.
    """
    rows: dict[tuple[str, ...], int] = {}
    for row, exit_id in enumerate(exits):
        rows[place_of(exit_id)] = row
    for row, exit_id in enumerate(exits):
        if not exit_id.link:
            rows.setdefault(place_of(exit_id.bare), row)
    return rows


ASK = ExitId(network="", cut=LAST_RESORT, head=OWN)
"""The stop at which a sample is handed on."""

ABSTAINED = -1
"""What a network answers about a sample that it hands on."""
