"""`Backbone`: a classifier as a chain of segments."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from operator import is_
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eesearch.core.design import OUTPUT
from eesearch.core.errors import ModelError, SplitError
from eesearch.nets.segments import merge_segments, own_tensors

Carry = tuple[Tensor, ...]
"""What travels from one segment to the next, batch first; the tap comes first."""


@dataclass(frozen=True)
class Cut:
    """A place between two segments.

    Attributes:
        name: The module after which the cut lies, as the user knows it.
        shape: What a head reads there, without the batch: [C, H, W], [T, D] or [D]; [V, C, H, W] of V views.
        kind: `map`; `tokens` (T tokens of D features; those that are not there are 0); `sequence` (D features at T
            times); `vector`; or `views`: a map of each view of the sample.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["map", "tokens", "sequence", "vector", "views"]


@dataclass(frozen=True)
class Origin:
    """What the segments come from.

    Attributes:
        structure: Text of the traced code and of its modules' settings.
        classes: Number of classes C.
        names: (name in the state dict of the user's model, name in the segments).
        unused: The tensors of that state dict that the forward never reads.
        views: Of a raw sample [V, C, H, W]; 0 if it is no views.
    """

    structure: str
    classes: int
    names: tuple[tuple[str, str], ...]
    unused: Mapping[str, Tensor]
    views: int = 0


class Backbone(nn.Module):
    """A classifier as a chain of K + 1 segments, cut at K places.

    `backbone(x)` is `model(x)`: proved by `split`, which makes backbones.

    Args:
        segments: Each maps the tensors of a carry to the next carry; the last one's first tensor are the logits.
        cuts: Between them. [K]
        example: One raw sample. [1, ...]
        origin: What they come from.
        name: Of the network, among several; it stands before the name of each cut.
    """

    example: Tensor

    def __init__(
        self, segments: Sequence[nn.Module], cuts: Sequence[Cut], example: Tensor, origin: Origin, *, name: str = ""
    ) -> None:
        super().__init__()
        self.name = name
        self.segments = nn.ModuleList(segments)
        self.cuts = tuple(cuts)
        self.origin = origin
        self.register_buffer("example", example, persistent=False)
        self._spans: dict[tuple[int, int], tuple[tuple[Tensor, ...], nn.Module]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles merge their own segments: these would still be made of this one's modules."""
        return {**self.__dict__, "_spans": {}}

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.origin.classes

    @property
    def output_cut(self) -> str:
        """The cut name of the own classifier."""
        return f"{self.name}/{OUTPUT}" if self.name else OUTPUT

    def forward(self, x: Tensor) -> Tensor:
        """Raw samples [N, ...] to logits [N, C]."""
        return self.output(self.run(self.start(x), 0, len(self.segments)))

    def start(self, x: Tensor) -> Carry:
        """The carry before the first segment."""
        return (x,)

    def run(self, carry: Carry, first: int, last: int) -> Carry:
        """Run the segments `first`, ..., `last - 1`."""
        for k in range(first, last):
            carry = self.segments[k](*carry)
        return carry

    def span(self, first: int, last: int) -> nn.Module:
        """The segments `first`, ..., `last - 1` as one module, carry to carry; shares all weights; built once."""
        segments = list(self.segments)[first:last]
        held = own_tensors(segments)
        before, merged = self._spans.get((first, last), (None, None))
        # a module is shared as it is, but a tensor that no module holds may have been replaced (by `.to`, `assign`)
        if merged is None or before is None or not all(map(is_, held, before)):
            merged = merge_segments(segments)
            self._spans[first, last] = held, merged
        return merged

    def tap(self, k: int, carry: Carry) -> Tensor:
        """What a head at cut `k` reads, from the carry after segment `k`. [N, *cuts[k].shape]"""
        return carry[0]

    def output(self, carry: Carry) -> Tensor:
        """The logits [N, C], from the carry after the last segment."""
        return carry[0]

    def keep(self, cuts: Sequence[str]) -> Backbone:
        """The same network with fewer cuts, in its own order; shares all weights with this one.

        Raises:
            SplitError: a name is not among the cuts.
        """
        known = [cut.name for cut in self.cuts]
        for name in cuts:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3) or known
                raise SplitError(f"the backbone has no cut '{name}'", expected=f"one of {', '.join(close)}")
        kept = [k for k, cut in enumerate(self.cuts) if cut.name in cuts]
        ends = [0, *(k + 1 for k in kept), len(self.segments)]
        merged = [merge_segments(list(self.segments)[a:b]) for a, b in pairwise(ends)]
        return self._around(merged, [self.cuts[k] for k in kept], self.name)

    def named(self, name: str) -> Backbone:
        """The same network as one among several: its name stands before those of its cuts; shares all weights."""
        cuts = [replace(cut, name=f"{name}/{cut.name}") for cut in self.cuts]
        return self._around(list(self.segments), cuts, name)

    def _around(self, segments: Sequence[nn.Module], cuts: Sequence[Cut], name: str) -> Backbone:
        """These segments of this network as one of their own, in the same mode."""
        backbone = Backbone(segments, cuts, self.example, self.origin, name=name)
        own = set(self.modules())
        for module in backbone.modules():
            if module not in own:  # only what holds the shared modules is new
                module.training = self.training
        return backbone

    @property
    def key(self) -> str:
        """Content key of code and weights, computed anew each time; the choice of cuts does not count."""
        digest = hashlib.sha256(self.origin.structure.encode())
        tensors = self.tensors()
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def original_state(self) -> dict[str, Tensor]:
        """The state dict of the user's model: its names, this network's weights (shared, not copied)."""
        tensors = self.tensors()
        used = {name: tensors[inner].detach() for name, inner in self.origin.names}
        return {**used, **self.origin.unused}

    def load_any(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state dict of the user's model into this network; or its own, as older versions stored it.

        Raises:
            ModelError: names or shapes are not this network's.
        """
        if state.keys() == self.state_dict().keys():
            self.load_state_dict(state)
        else:
            self.load_original(state)

    def load_original(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state dict of the user's model into this network.

        Raises:
            ModelError: names or shapes are not this network's.
        """
        own = self.original_state()
        wrong = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
        if wrong:
            raise ModelError(
                "the weights do not belong to this network",
                got=f"{len(wrong)} missing, foreign or of another shape: {', '.join(wrong[:3])}",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer, by its path in the traced model."""
        return {
            name: tensor
            for segment in self.segments
            for name, tensor in chain(
                segment.named_parameters(remove_duplicate=False), segment.named_buffers(remove_duplicate=False)
            )
        }
