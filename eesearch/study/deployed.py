"""The network of a chosen point, ready to answer: what `Run.model` returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isnan

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.errors import PolicyError
from eesearch.core.policy import Fit, Policy
from eesearch.nets.backbone import Carry
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet, Prediction
from eesearch.nets.inputs import as_tensor
from eesearch.nets.stages import Stage


class Deployed(nn.Module):
    """A network with the exits of one policy, in eval mode.

    Args:
        net: Taken over, with all the exits that were trained.
        policy: Which of them are active, and when a sample leaves.
        fits: Those that the policy's thresholds were chosen with.
    """

    def __init__(self, net: ExitNet | CascadeNet, policy: Policy, fits: Sequence[Fit] = ()) -> None:
        super().__init__()
        self.net = net
        self.policy = policy
        self.fits = tuple(fits)
        self.eval()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What runs between two decisions, in order; they share their weights with the network. [k]"""
        return self.net.stages(self.policy)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The score at which a sample leaves, per stop; assign others to trade accuracy for cost. [k]"""
        return self.policy.thresholds

    @thresholds.setter
    def thresholds(self, values: Iterable[float]) -> None:
        stops, wanted = self.policy.stops, tuple(map(float, values))
        if len(wanted) != len(stops) or wanted[-1] != -inf or any(map(isnan, wanted)):
            raise PolicyError(
                "these thresholds do not fit the policy",
                got=list(wanted),
                expected=f"{len(stops)} numbers, the last one -inf: whoever comes that far leaves there",
            )
        changed = [stop.model_copy(update={"threshold": t}) for stop, t in zip(stops, wanted, strict=True)]
        self.policy = self.policy.model_copy(update={"stops": tuple(changed)})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Raw samples [N, ...] to the logits [N, C] of every stage, in order; everything runs, gradients flow."""
        carry: Carry = (x,)
        said = []
        for stage in self.stages:
            carry, logits = stage.run(carry)
            said.append(logits)
        return said

    def predict(self, x: Tensor | NDArray[np.generic]) -> Prediction:
        """Answer raw samples [N, ...]; what has left is not computed any further."""
        return self.net.predict(as_tensor(x) if isinstance(x, np.ndarray) else x, self.policy, self.fits)

    def extra_repr(self) -> str:
        """The stops."""
        return ", ".join(f"{stop.exit.cut} at {stop.threshold:.4g}" for stop in self.policy.stops)
