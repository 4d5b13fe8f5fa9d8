"""The data of a study: where they come from, what of them calibrates, which classes count more."""

from __future__ import annotations

from functools import partial
from operator import eq, is_
from typing import Any

from pydantic import Field, field_validator, model_validator

from eesearch.core.design import Value
from eesearch.core.weights import ClassWeights
from eesearch.training.data import Calibration
from eesearch.training.texts import Tokenizing


class DataSpec(Value):
    """The data.

    Attributes:
        source: An `.npz` or `.csv` file; a folder of images; `package.module:function` that returns arrays or data
            sets; `torchvision:NAME`; `hf:FOLDER` or `hf:NAME`.
        args: Of the function, or what the source knows.
        calibration: Where the calibration split comes from if the data have none of their own; by default a fifth of
            the training split, or, for a network that comes with weights, one half of the test split.
        certification: Share of the calibration samples, wherever they come from, that `eesearch certify` alone reads.
        class_weights: Class -> what a sample of it counts in accuracies, 1 where nothing is said; or `balanced`: every
            class counts the same in each split.
        tokenizer: Of texts: a folder that `save_pretrained` wrote, or a name in the hub's cache.
        max_tokens: The rest of a longer text is cut off.
    """

    source: str
    args: dict[str, Any] = Field(default_factory=dict)
    tokenizer: str = Field(default="", exclude_if=partial(eq, ""))
    max_tokens: int = Field(default=128, ge=1, exclude_if=partial(eq, 128))
    calibration: Calibration | None = None
    certification: float | None = Field(default=None, gt=0.0, lt=1.0)
    class_weights: ClassWeights | None = Field(default=None, exclude_if=partial(is_, None))

    @field_validator("class_weights", mode="before")
    @classmethod
    def _named(cls, weights: Any) -> Any:
        """YAML reads class `8` as a number."""
        if isinstance(weights, dict):
            return {str(name): weight for name, weight in weights.items()}
        if weights not in (None, "balanced"):
            raise ValueError(f"expected `balanced`, or a weight for each class, such as {{cat: 5}}; got {weights!r}")
        return weights

    @model_validator(mode="after")
    def _certifiable(self) -> DataSpec:
        if self.certification is not None and self.class_weights:
            raise ValueError("certification and class_weights exclude each other: certificates count samples")
        return self

    @property
    def tokenizing(self) -> Tokenizing | None:
        """How texts become token ids; None: samples are no texts."""
        return Tokenizing(self.tokenizer, self.max_tokens) if self.tokenizer else None
