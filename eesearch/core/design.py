"""What must be trained: heads, exits, training sections, designs, and their content keys."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eesearch.core.registry import STRATEGIES

OUTPUT = "output"
"""The cut name of a network's own classifier."""

OWN = "own"
"""The head name of a network's own classifier."""

LAST_RESORT = "last resort"
"""The cut name of whoever is asked when no network is sure: a person, the cloud. Part of no network."""


class Value(BaseModel):
    """A frozen value that writes itself as JSON and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def content_key(*parts: object) -> str:
    """Hash JSON-able parts to 16 hex digits; equal parts give equal keys on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TapSpec(Value):
    """What a head reads of the hidden state at its cut.

    `pool="none"` is the tap as it is. `avg` pools a map [N, C, H, W] to [N, C, p, p]; `mixed` concatenates the average-
    and the max-pooled map to [N, 2C, p, p]. A sequence [N, T, D] is pooled over its tokens, to [N, D, p] or [N, 2D, p].
    A vector [N, D] is never pooled.
    """

    pool: Literal["none", "avg", "mixed"] = "avg"
    size: int = Field(default=1, ge=1, le=4)


class HeadSpec(Value):
    """The design of one head (auxiliary classifier c_i, eq. 3 of the survey).

    Attributes:
        kind: A name in the HEADS registry: `linear`, `mlp`, `conv`, `dsconv`.
        pool: How a map is pooled before the head reads it; `none` (conv and dsconv only) reads the full map.
        size: The side p of the pooled map, 1 to 4.
        hidden: Widths of the hidden layers (mlp: one or two).
        channels: Channels of the convolution (conv, dsconv).
    """

    kind: str = "linear"
    pool: Literal["none", "avg", "mixed"] = "avg"
    size: int = Field(default=1, ge=1, le=4)
    hidden: tuple[int, ...] = ()
    channels: int = Field(default=32, ge=1)

    @property
    def tap(self) -> TapSpec:
        """What this head reads."""
        return TapSpec(pool=self.pool, size=1 if self.pool == "none" else self.size)

    @property
    def name(self) -> str:
        """A short unique name, such as `linear-avg1`, `mlp64-mixed2`, `conv32-map`."""
        width = {"mlp": "x".join(map(str, self.hidden))}.get(self.kind, "")
        width = str(self.channels) if self.kind in ("conv", "dsconv") else width
        return f"{self.kind}{width}-{'map' if self.pool == 'none' else f'{self.pool}{self.size}'}"


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
    """

    backbone: str
    data: str
    strategy: str
    exits: tuple[ExitSpec, ...]
    train: TrainSpec
    seed: int = 0
    start: str = ""

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
        fields = self.model_dump(mode="json")
        if not STRATEGIES[self.strategy].uses_alpha:
            for exit_fields in fields["exits"]:
                exit_fields.pop("alpha")
        return content_key(fields)


class ExitId(Value):
    """One exit of one trained network.

    Attributes:
        network: Key of the backbone's weights after training; all `separate` designs share one network.
        cut: Name of the cut, or `OUTPUT` for the network's own classifier.
        head: Name of the head, or `OWN`.
    """

    network: str
    cut: str
    head: str

    @property
    def is_output(self) -> bool:
        """Whether this is the network's own classifier."""
        return self.cut == OUTPUT

    @property
    def is_last_resort(self) -> bool:
        """Whether the sample is handed on, to a person or to the cloud."""
        return self.cut == LAST_RESORT

    def __str__(self) -> str:
        return f"{self.network}:{self.cut}:{self.head}"


ASK = ExitId(network="", cut=LAST_RESORT, head=OWN)
"""The stop at which a sample is handed on."""

ABSTAINED = -1
"""What a network answers about a sample that it hands on."""
