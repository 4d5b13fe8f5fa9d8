"""`CascadeNet`: several networks with exits, entered one after the other, each from the raw samples."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.cascades import member_of
from eesearch.core.design import ExitId
from eesearch.core.errors import ModelError, PolicyError
from eesearch.core.policy import Fit, Policy
from eesearch.nets.backbone import Backbone
from eesearch.nets.exitnet import Coded, ExitNet, answered
from eesearch.nets.segments import carrying
from eesearch.nets.stages import Prediction, Stage


class CascadeNet(nn.Module):
    """Networks with exits, any of which a policy may enter, each at most once.

    Args:
        members: Name of each -> the network, whose cuts bear that name; taken over, not copied.
        reference: Name of the one that all is compared with.

    Raises:
        ModelError: members differ in their classes, or two of them are the same network.
    """

    def __init__(self, members: Mapping[str, ExitNet], reference: str) -> None:
        super().__init__()
        classes = {name: net.backbone.classes for name, net in members.items()}
        if len(set(classes.values())) > 1:
            raise ModelError("networks with different classes make no cascade", got=classes)
        networks = [net.network for net in members.values()]
        if len(set(networks)) < len(networks):
            twins = [name for name, net in members.items() if networks.count(net.network) > 1]
            raise ModelError(
                "a cascade holds the same network twice", got=", ".join(twins), do="Leave one of them out."
            )
        self.names = tuple(members)
        self.nets = nn.ModuleList(members.values())
        self.reference = reference

    @property
    def exits(self) -> tuple[ExitId, ...]:
        """All exits, one network after the other, those of the reference last. [E]"""
        return tuple(e for name in self._ordered for e in self.member(name).exits)

    @property
    def _ordered(self) -> list[str]:
        return sorted(self.names, key=lambda name: name == self.reference)

    @property
    def backbone(self) -> Backbone:
        """The reference without exits."""
        return self.member(self.reference).backbone

    def member(self, name: str) -> ExitNet:
        """One of the networks.

        Raises:
            PolicyError: there is none of this name.
        """
        if name not in self.names:
            raise PolicyError(f"there is no network '{name}'", expected=f"one of {', '.join(self.names)}")
        found = self.nets[self.names.index(name)]
        assert isinstance(found, ExitNet)
        return found

    def only(self, places: Container[tuple[str, str]]) -> CascadeNet:
        """The same networks with these heads only, which they share."""
        return CascadeNet({name: self.member(name).only(places) for name in self.names}, self.reference)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Raw samples [N, ...] to the logits [N, C] of every exit, in their order."""
        return [logits for name in self._ordered for logits in self.member(name)(x)]

    def behind(self, cut: str) -> Coded:
        """The exits behind a cut of its network, for samples whose carry is coded there.

        Raises:
            PolicyError: there is no such network.
        """
        return self.member(cut.rpartition("/")[0]).behind(cut)

    def stages(self, policy: Policy, *, coding: bool = True) -> tuple[Stage, ...]:
        """The stages of a policy, one per stop, as of one network: all that is deployed.

        As long as another network follows, the raw samples travel along, last in the carry; the last stage of a network
        hands on nothing else.

        Raises:
            PolicyError: a stop is no exit of any member.
        """
        runs, stages = self.runs(policy, coding=coding), list[Stage]()
        for number, run in enumerate(runs):
            for place, stage in enumerate(run):
                first, ends, keeps = place == 0, place == len(run) - 1, number < len(runs) - 1
                segment = carrying(stage.segment, enters=first and number > 0, first=first, keeps=keeps, ends=ends)
                stages.append(Stage(segment, stage.head, stage.exit, stage.threshold))
        return tuple(stages)

    def runs(self, policy: Policy, *, coding: bool = True) -> tuple[tuple[Stage, ...], ...]:
        """The stages of each network that a policy enters, apart: each network starts from the raw samples.

        Raises:
            PolicyError: a stop is no exit of any member.
        """
        stops = [stop for stop in policy.stops if not stop.exit.is_last_resort]
        runs = []
        for run in (tuple(run) for _, run in groupby(stops, key=lambda stop: stop.exit.network)):
            net = self.member(member_of(run[0].exit))
            # whoever is left after the last stop of a network is no business of that network
            ending = run[-1].model_copy(update={"threshold": float("-inf")})
            own = net.stages(policy.model_copy(update={"stops": (*run[:-1], ending)}), coding=coding)
            ends = Stage(own[-1].segment, own[-1].head, own[-1].exit, run[-1].threshold)
            runs.append((*own[:-1], ends))
        return tuple(runs)

    def predict(self, x: Tensor | NDArray[np.generic], policy: Policy, fits: Sequence[Fit] = ()) -> Prediction:
        """Answer, and stop computing where the policy says; see `ExitNet.predict`.

        Raises:
            PolicyError: the policy is not for these networks, or policy and fits do not belong together.
        """
        return answered(self, self.stages(policy), x, policy, fits)
