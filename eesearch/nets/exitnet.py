"""`ExitNet`: a backbone with heads, and the one place where a network really stops computing."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.design import OUTPUT, OWN, ExitId, HeadSpec
from eesearch.core.errors import HeadError, ModelError, PolicyError
from eesearch.core.policy import Criterion, Fit, Policy
from eesearch.core.registry import CRITERIA
from eesearch.nets.heads import Head, build_head
from eesearch.nets.inputs import as_samples
from eesearch.nets.split import Backbone, Carry

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Stage:
    """What runs between two decisions: some segments, then what answers.

    Attributes:
        first: First segment to run.
        last: One past the last segment to run.
        exit: The exit that answers.
        head: Its head; None for the network's own classifier.
        tap: Index of the cut that the head reads; the number of cuts for the network's own classifier.
        threshold: A sample leaves iff its score is at least this.
    """

    first: int
    last: int
    exit: ExitId
    head: Head | None
    tap: int
    threshold: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network with exits says.

    Attributes:
        answer: Class of each sample. int64 [N]
        exit: Index into `policy.stops` of the stop where each sample left. int64 [N]
        score: Score with which it left, the last stop's included. float32 [N]
    """

    answer: NDArray[np.int64]
    exit: NDArray[np.int64]
    score: NDArray[np.float32]


class ExitNet(nn.Module):
    """A backbone with early exits.

    Args:
        backbone: Taken over, not copied.
        heads: (name of a cut, name of the head) -> head; none: the backbone alone. Exits stand in the order of the
            cuts, those at one cut as given, the network's own classifier last.

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
        self.places = tuple(places)
        self.taps = tuple(depth[cut] for cut, _ in places)
        self.network = backbone.key

    @property
    def exits(self) -> tuple[ExitId, ...]:
        """All exits, the network's own classifier last. [E]"""
        return tuple(ExitId(network=self.network, cut=cut, head=name) for cut, name in (*self.places, (OUTPUT, OWN)))

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

    def stages(self, policy: Policy) -> tuple[Stage, ...]:
        """The stages of a policy, one per stop; cuts without an active exit are merged away.

        Raises:
            PolicyError: a stop is not an exit of this network, or the stops do not go up from cut to cut.
        """
        row = {exit_id: i for i, exit_id in enumerate(self.exits)}
        taps = (*self.taps, len(self.backbone.cuts))
        stages: list[Stage] = []
        first = 0
        for stop in policy.stops:
            if stop.exit not in row:
                raise PolicyError(f"the network has no exit {stop.exit}", expected=[str(e) for e in row])
            i = row[stop.exit]
            last = taps[i] + 1
            if last <= first:
                raise PolicyError(
                    f"a sample cannot meet {stop.exit} after {stages[-1].exit}", expected="stops from cut to later cut"
                )
            head = None if stop.exit.is_output else self.heads[i]
            stages.append(Stage(first, last, stop.exit, head, taps[i], stop.threshold))  # type: ignore[arg-type]
            first = last
        return tuple(stages)

    def run_stage(self, stage: Stage, carry: Carry) -> tuple[Carry, Tensor]:
        """Go on from the stage before: the new carry, and the logits [N, C] of this stage's exit."""
        carry = self.backbone.run(carry, stage.first, stage.last)
        if stage.head is None:
            return carry, self.backbone.output(carry)
        return carry, stage.head(self.backbone.tap(stage.tap, carry))

    def predict(self, x: Tensor | NDArray[np.generic], policy: Policy, fit: Fit | None = None) -> Prediction:
        """Answer, and stop computing where the policy says: samples that leave a batch are not computed any further.

        Runs in eval mode, whatever the mode of the network, which is kept.

        Args:
            x: Raw samples [N, ...].
            policy: Which exits are active, and when a sample leaves.
            fit: The temperatures, if the policy's thresholds were chosen with some; the deployed values are used.

        Raises:
            PolicyError: the policy or the fit is not for this network, or the policy needs a fit.
        """
        stages = self.stages(policy)
        temperature = _temperatures(policy, fit)
        criterion: Criterion = CRITERIA[policy.criterion]
        samples = as_samples(x).to(self.backbone.example.device)
        with _eval_mode(self), torch.inference_mode():
            return self.route(samples, stages, criterion, temperature.to(samples.device))

    def route(self, x: Tensor, stages: tuple[Stage, ...], criterion: Criterion, temperature: Tensor) -> Prediction:
        """What `predict` does once policy and fit are read: run stage after stage until everybody has left.

        Args:
            x: Raw samples [N, ...] on the device of the network.
            stages: Of a policy, as `stages` gives them.
            criterion: Scores the answers.
            temperature: Of each stage. [k, 1]
        """
        if len(x) == 1:
            return self._route_one(x, stages, criterion, temperature)
        return self._route_batch(x, stages, criterion, temperature)

    def _route_one(self, x: Tensor, stages: tuple[Stage, ...], criterion: Criterion, temperature: Tensor) -> Prediction:
        """A single sample needs no bookkeeping: on small networks that would cost as much as a segment."""
        carry = self.backbone.start(x)
        seen: list[Tensor] = []
        for number, stage in enumerate(stages):
            carry, logits = self.run_stage(stage, carry)
            seen = [*seen, logits] if criterion.memory == "all" else [logits]
            said, sure = criterion.function(torch.stack(seen), temperature[number + 1 - len(seen) : number + 1])
            score = sure.item()
            if score >= stage.threshold or number == len(stages) - 1:
                break
        chosen = (logits if criterion.memory == "last" else said).argmax(-1).item()
        return Prediction(np.array([chosen]), np.array([number]), np.array([score], np.float32))

    def _route_batch(
        self, x: Tensor, stages: tuple[Stage, ...], criterion: Criterion, temperature: Tensor
    ) -> Prediction:
        """Samples that leave are not computed any further."""
        answer = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        stop, score = torch.zeros_like(answer), torch.zeros(len(x), device=x.device)
        rows = torch.arange(len(x), device=x.device)  # the samples that are still on their way
        carry = self.backbone.start(x)
        seen = torch.empty(0)  # [k, n, C]
        for number, stage in enumerate(stages if len(x) else ()):
            carry, logits = self.run_stage(stage, carry)
            seen = torch.cat([seen, logits[None]]) if number and criterion.memory == "all" else logits[None]
            said, sure = criterion.function(seen, temperature[number + 1 - len(seen) : number + 1])
            # Where an exit speaks for itself its answer is that of its logits: probabilities may be rounded to a tie.
            chosen = (logits if criterion.memory == "last" else said).argmax(-1)
            leaves = sure.double() >= stage.threshold  # in double precision, as thresholds are midpoints of scores
            if number == len(stages) - 1:
                leaves = torch.ones_like(leaves)
            gone = rows[leaves]
            answer[gone], stop[gone], score[gone] = chosen[leaves], number, sure[leaves].float()
            if len(gone) == len(rows):
                break
            if len(gone):
                goes_on = ~leaves
                rows, seen = rows[goes_on], seen[:, goes_on]
                carry = tuple(tensor[goes_on] for tensor in carry)
        return Prediction(answer.cpu().numpy(), stop.cpu().numpy(), score.cpu().numpy())

    def arrays(self) -> tuple[Arrays, dict[str, str]]:
        """All weights and what is needed to build the heads again, as the store keeps them."""
        state = {f"backbone.{name}": tensor for name, tensor in self.backbone.original_state().items()}
        for i, head in enumerate(self.heads):
            state |= {f"head.{i}.{name}": tensor for name, tensor in head.state_dict().items()}
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


def _temperatures(policy: Policy, fit: Fit | None) -> Tensor:
    """Of each stop. [k, 1]"""
    if fit is None and policy.fits:
        raise PolicyError("the policy's thresholds were chosen with a fit", got="none", do="Pass it to predict.")
    if fit is None:
        return torch.ones(len(policy.stops), 1)
    return torch.from_numpy(fit.deployed[fit.rows(policy.exits)].astype(np.float32))[:, None]


@contextmanager
def _eval_mode(net: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each module gets its own mode back."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _below(prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): torch.tensor(array) for name, array in arrays.items() if name.startswith(prefix)}


def _load_head(head: nn.Module, state: Mapping[str, Tensor], place: tuple[str, str]) -> None:
    try:
        head.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ModelError(f"the weights do not fit the head '{place[1]}' at '{place[0]}'", got=str(error)) from error
