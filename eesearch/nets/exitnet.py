"""`ExitNet`: a backbone with heads."""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.design import NOTHING, OWN, ExitId, HeadSpec
from eesearch.core.errors import HeadError, ModelError, PolicyError
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.nets.heads import Head, build_head
from eesearch.nets.inputs import as_tensor
from eesearch.nets.links import carry_at, code_segment, link_name
from eesearch.nets.modes import evaluating
from eesearch.nets.segments import merge_segments
from eesearch.nets.split import Backbone
from eesearch.nets.stages import Prediction, Stage, route

__all__ = ["ExitNet", "Prediction", "Stage"]

Arrays = dict[str, NDArray[np.generic]]

BATCH = 256
"""Samples that are computed at once."""


class ExitNet(nn.Module):
    """A backbone with early exits.

    Args:
        backbone: Taken over, not copied.
        heads: (name of a cut, name of the head) -> head; none: the backbone alone. Exits stand in the order of the
            cuts, those at one cut as given, the network's own classifier last.

    Attributes:
        learnt: What training learnt about the exits beside their heads, by kind of fit: [E, D], a row per exit.

    Raises:
        HeadError: one is for another cut or another shape.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[tuple[str, str], Head]) -> None:
        super().__init__()
        depth = {cut.name: k for k, cut in enumerate(backbone.cuts)}
        for (cut, name), head in heads.items():
            if cut not in depth:
                raise HeadError(f"the head '{name}' hangs on no cut", got=cut, expected=f"one of {', '.join(depth)}")
            if head.cut_shape != backbone.cuts[depth[cut]].shape:
                expected = list(backbone.cuts[depth[cut]].shape)
                raise HeadError(f"the head '{name}' does not fit '{cut}'", got=list(head.cut_shape), expected=expected)
        places = sorted(heads, key=lambda place: depth[place[0]])
        self.backbone = backbone
        self.heads = nn.ModuleList(heads[place] for place in places)
        self.learnt = nn.ParameterDict()
        self.places = tuple(places)
        self.taps = tuple(depth[cut] for cut, _ in places)
        self.network = backbone.key

    @property
    def exits(self) -> tuple[ExitId, ...]:
        """All exits, the network's own classifier last. [E]"""
        places = (*self.places, (self.backbone.output_cut, OWN))
        return tuple(ExitId(network=self.network, cut=cut, head=name) for cut, name in places)

    def head(self, cut: str, name: str) -> Head:
        """The head `name` at a cut.

        Raises:
            HeadError: there is none.
        """
        if (cut, name) not in self.places:
            known = ", ".join(f"'{n}' at '{c}'" for c, n in self.places)
            raise HeadError(f"the network has no head '{name}' at '{cut}'", expected=f"one of {known}")
        found = self.heads[self.places.index((cut, name))]
        assert isinstance(found, Head)
        return found

    def only(self, places: Container[tuple[str, str]]) -> ExitNet:
        """The same network with these heads only, which it shares."""
        return ExitNet(self.backbone, {place: self.head(*place) for place in self.places if place in places})

    def refresh(self) -> None:
        """Recompute `network` after the backbone was trained."""
        self.network = self.backbone.key

    def forward(self, x: Tensor) -> list[Tensor]:
        """Raw samples [N, ...] to the logits [N, C] of every exit, the network's own classifier last."""
        carry = self.backbone.start(x)
        logits = []
        for k in range(len(self.backbone.segments)):
            carry = self.backbone.run(carry, k, k + 1)
            if k in self.taps:
                hidden = self.backbone.tap(k, carry)
                logits += [head(hidden) for head, tap in zip(self.heads, self.taps, strict=True) if tap == k]
        return [*logits, self.backbone.output(carry)]

    def behind(self, cut: str) -> Coded:
        """The exits behind a cut, for samples whose carry is coded there."""
        return Coded(self, cut)

    def stages(self, policy: Policy, *, coding: bool = True) -> tuple[Stage, ...]:
        """The stages of a policy, one per stop in this network: all that is deployed.

        What lies between two stops is merged into one segment; nothing behind the last stop is contained. A last
        resort is no stage. On which tiers stages run is not told; but where a carry crosses a link that codes it, the
        segment behind does the same.

        Args:
            policy: Which exits are active.
            coding: Whether segments code carries; False for who sends codes.

        Raises:
            PolicyError: a stop is not an exit of this network, or the stops do not go up from cut to cut.
        """
        stages: list[Stage] = []
        first, link = 0, ""
        for stop in policy.stops:
            if stop.exit.is_last_resort:
                continue
            last = self._depth(stop.exit) + 1
            if last <= first:
                raise PolicyError(
                    f"a sample cannot meet {stop.exit} after {stages[-1].exit}", expected="stops from cut to later cut"
                )
            segment = self.backbone.span(first, last)
            if coding and stop.exit.link != link:
                segment = self._coded(stop.exit, first, segment)
            stages.append(Stage(segment, self._head_of(stop.exit), stop.exit, stop.threshold))
            first, link = last, stop.exit.link
        return tuple(stages)

    def _depth(self, exit_id: ExitId) -> int:
        """Number of the segment that ends at an exit."""
        cuts, known = [cut.name for cut in self.backbone.cuts], self.exits
        if exit_id.bare not in known and not (
            exit_id.network == self.network and exit_id.is_none and exit_id.cut in cuts
        ):
            raise PolicyError(f"the network has no exit {exit_id}", expected=[str(e) for e in known])
        return len(cuts) if exit_id.is_output else cuts.index(exit_id.cut)

    def _head_of(self, exit_id: ExitId) -> Head | None:
        if exit_id.is_output:
            return None
        if exit_id.is_none:
            shape = next(cut.shape for cut in self.backbone.cuts if cut.name == exit_id.cut)
            return build_head(HeadSpec(kind=NOTHING, pool="none"), shape, self.backbone.classes).eval()
        return self.head(exit_id.cut, exit_id.head)

    def _coded(self, exit_id: ExitId, first: int, segment: nn.Module) -> nn.Module:
        """A segment behind the cut at which the link of an exit codes the carry."""
        cut = self.backbone.cuts[first - 1].name if first else "the input"
        if exit_id.link != link_name(cut):
            raise PolicyError(
                f"the samples at {exit_id} cannot have crossed the link", got=f"from {cut}", expected=exit_id.link
            )
        return merge_segments([code_segment(carry_at(self.backbone, cut)), segment])

    def predict(self, x: Tensor | NDArray[np.generic], policy: Policy, fits: Sequence[Fit] = ()) -> Prediction:
        """Answer, and stop computing where the policy says: samples that leave a batch are not computed any further.

        Runs in eval mode, whatever the mode of the network, which is kept; in batches of 256.

        Args:
            x: Raw samples [N, ...].
            policy: Which exits are active, and when a sample leaves.
            fits: Those that the policy's thresholds were chosen with; their deployed values are used.

        Raises:
            PolicyError: the policy is not for this network, or policy and fits do not belong together.
        """
        return answered(self, self.stages(policy), x, policy, fits)

    def arrays(self) -> tuple[Arrays, dict[str, str]]:
        """All weights and what is needed to build the heads again, as the store keeps them."""
        state = {f"backbone.{name}": tensor for name, tensor in self.backbone.original_state().items()}
        for i, head in enumerate(self.heads):
            state |= {f"head.{i}.{name}": tensor for name, tensor in head.state_dict().items()}
        state |= {f"learnt.{kind}": tensor for kind, tensor in self.learnt.items()}
        heads = [
            {"cut": cut, "name": name, "spec": head.spec.model_dump(mode="json")}  # type: ignore[union-attr, operator]
            for (cut, name), head in zip(self.places, self.heads, strict=True)
        ]
        meta = {"heads": json.dumps(heads), "network": self.backbone.key}
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}, meta

    def load_arrays(self, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, str]) -> None:
        """Copy stored weights into this network, which must have the same heads.

        Raises:
            ModelError: the weights are of another network.
        """
        heads = [(h["cut"], h["name"]) for h in json.loads(meta["heads"])]
        if heads != list(self.places):
            raise ModelError("the weights are of a network with other heads", got=heads, expected=list(self.places))
        self.backbone.load_original(_below("backbone.", arrays))
        for i, head in enumerate(self.heads):
            _load_head(head, _below(f"head.{i}.", arrays), self.places[i])
        self.learnt = nn.ParameterDict(_below("learnt.", arrays))
        self.refresh()
        if self.network != meta["network"]:
            raise ModelError("the weights are of a network with other code", got=self.network, expected=meta["network"])

    @classmethod
    def from_arrays(
        cls, backbone: Backbone, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, str]
    ) -> ExitNet:
        """Build a stored network on a copy of a backbone with the same code.

        Raises:
            ModelError: the weights are of another network.
        """
        shapes = {cut.name: cut.shape for cut in backbone.cuts}
        heads = {}
        with torch.random.fork_rng():
            for head in json.loads(meta["heads"]):
                if head["cut"] not in shapes:
                    raise ModelError("the weights are of a network with other cuts", got=head["cut"])
                spec = HeadSpec(**head["spec"])
                heads[head["cut"], head["name"]] = build_head(spec, shapes[head["cut"]], backbone.classes)
        net = cls(copy.deepcopy(backbone), heads).eval()
        net.load_arrays(arrays, meta)
        return net


def answered(
    net: nn.Module, stages: Sequence[Stage], x: Tensor | NDArray[np.generic], policy: Policy, fits: Sequence[Fit]
) -> Prediction:
    """What the stages of a policy answer; see `ExitNet.predict`.

    Args:
        net: That the stages are of; in eval mode meanwhile.
        stages: Of the policy.
        x: Raw samples [N, ...].
        policy: Which exits are active.
        fits: Those that its thresholds were chosen with.

    Raises:
        PolicyError: policy and fits do not belong together.
    """
    scoring = Scoring.of(policy, fits)
    device = next(chain(net.parameters(), net.buffers())).device
    fitted = scoring.parameters([stage.exit for stage in stages])
    parameters = {kind: torch.from_numpy(values).to(device) for kind, values in fitted.items()}
    with evaluating(net), torch.inference_mode():
        batches = (as_tensor(x[i : i + BATCH]).to(device) for i in range(0, max(len(x), 1), BATCH))
        return Prediction.join([route(batch, stages, scoring.decision, parameters) for batch in batches])


class Coded(nn.Module):
    """What the exits of a network behind a cut say if the carry is coded there, as on a link.

    Args:
        net: Shared, not copied.
        cut: One of its cuts.
    """

    def __init__(self, net: ExitNet, cut: str) -> None:
        super().__init__()
        self.net = net
        self.depth = [c.name for c in net.backbone.cuts].index(cut) + 1
        self.code = code_segment(carry_at(net.backbone, cut))
        deeper = {c.name for c in net.backbone.cuts[self.depth :]}
        self.exits = tuple(
            e.model_copy(update={"link": link_name(cut)}) for e in net.exits if e.is_output or e.cut in deeper
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Raw samples [N, ...] to the logits [N, C] of the exits behind the cut, the own classifier last."""
        backbone = self.net.backbone
        carry = self.code(*backbone.run(backbone.start(x), 0, self.depth))
        logits = []
        for k in range(self.depth, len(backbone.segments)):
            carry = backbone.run(carry, k, k + 1)
            heads = [head for head, tap in zip(self.net.heads, self.net.taps, strict=True) if tap == k]
            logits += [head(backbone.tap(k, carry)) for head in heads]
        return [*logits, backbone.output(carry)]


def _below(prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): torch.tensor(array) for name, array in arrays.items() if name.startswith(prefix)}


def _load_head(head: nn.Module, state: Mapping[str, Tensor], place: tuple[str, str]) -> None:
    try:
        head.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ModelError(f"the weights do not fit the head '{place[1]}' at '{place[0]}'", got=str(error)) from error
