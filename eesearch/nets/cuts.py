"""Where a traced model can be cut: liveness, candidates, names, and why a place is refused."""

from __future__ import annotations

import difflib
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from eesearch.core.design import OUTPUT
from eesearch.core.errors import SplitError
from eesearch.nets.adapters import PLACE
from eesearch.nets.facts import Fact
from eesearch.nets.layout import Layouts, layouts_of
from eesearch.nets.trace import PREFIX, Traced, attribute

Kind = Literal["map", "tokens", "sequence", "vector", "views"]

KINDS: dict[int, Kind] = {1: "vector", 2: "tokens", 3: "map", 4: "views"}
"""What a head reads, by the number of its dimensions without the batch; `views`: a map of each view of the sample."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_HEAVY_FUNCTIONS = {
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(F.linear, F.bilinear, F.scaled_dot_product_attention, F.multi_head_attention_forward),
    *(torch.conv1d, torch.conv2d, torch.conv3d, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
    *(torch.einsum, operator.matmul),
}
_HEAVY_METHODS = {"matmul", "mm", "bmm", "addmm", "baddbmm", "__matmul__"}


@dataclass(frozen=True)
class Place:
    """A position in the forward after which one could cut.

    Attributes:
        position: Index of the last node before the cut.
        tap: What a head would read; None if the module there returns something else than one value.
    """

    position: int
    tap: fx.Node | None


@dataclass(frozen=True)
class Point:
    """A chosen cut.

    Attributes:
        name: Of the place.
        position: Index of the last node before it.
        carry: What travels over it, the tap first.
        kind: What the tap is.
        axis: Of the tap's channels, with the batch counted; heads are given them behind the batch (maps) or last.
    """

    name: str
    position: int
    carry: tuple[fx.Node, ...]
    kind: Kind
    axis: int

    def moved(self, rank: int) -> tuple[int, ...] | None:
        """The order of axes in which heads read a tap of so many, batch included; None: it is in that order."""
        wanted = rank - 1 if self.kind in ("tokens", "sequence") else 1
        if self.kind not in ("map", "tokens", "sequence") or self.axis == wanted:
            return None
        order = [axis for axis in range(rank) if axis != self.axis]
        order.insert(wanted, self.axis)
        return tuple(order)


class Places:
    """All places of a traced model.

    Args:
        traced: The model.
        facts: What its values are.
        views: Of a sample; 0 if it has none.
        shared: Types and paths of modules whose weights may be used before and after a cut.
    """

    def __init__(
        self,
        traced: Traced,
        facts: dict[fx.Node, Fact],
        views: int = 0,
        shared: tuple[type[nn.Module] | str, ...] = (),
    ) -> None:
        self.traced = traced
        self.facts = facts
        self.views = views
        self._shared_types = tuple(kind for kind in shared if not isinstance(kind, str))
        self._shared_paths = tuple(f"{PREFIX}.{path}." for path in shared if isinstance(path, str))
        self._index = {node: i for i, node in enumerate(traced.nodes)}
        self._uses = {node: [self._index[u] for u in node.users if u not in traced.dead] for node in traced.nodes}
        self._last_use = {node: max(at, default=-1) for node, at in self._uses.items()}

    def alive(self, position: int) -> tuple[fx.Node, ...]:
        """Values made up to a position and used after it; weights and sizes do not count, they are made anew."""
        return tuple(
            node
            for node in self.traced.nodes[: position + 1]
            if node.op != "get_attr" and self._last_use[node] > position and self.facts[node].kind != "size"
        )

    @cached_property
    def named(self) -> dict[str, Place]:
        """Names that a user may give: modules, `module@2` for the second of several calls, then nodes."""
        places: dict[str, Place] = {}
        times = Counter(call.path for call in self.traced.calls)
        count: Counter[str] = Counter()
        for call in self.traced.calls:
            count[call.path] += 1
            if call.path.startswith(f"{PREFIX}."):
                name = _own_name(call.path)
                # A module called `output` must not be taken for the network's own classifier.
                numbered = times[call.path] > 1 or name == OUTPUT
                places[f"{name}@{count[call.path]}" if numbered else name] = Place(call.position, call.output)
        for position, node in enumerate(self.traced.nodes):
            if node.op in ("call_function", "call_method"):
                free = node.name if node.name not in places else f"{node.name}@fx"
                places[node.meta.get(PLACE, free)] = Place(position, node)
        return places

    @cached_property
    def _names(self) -> dict[Place, str]:
        """The name of each place: the deepest module that ends there, rather one that is called only once."""
        names: dict[Place, str] = {}
        for name in sorted(self.named, key=self._rank):  # the best comes last and stays
            names[self.named[name]] = name
        return names

    def _rank(self, name: str) -> tuple[int, int]:
        tap = self.named[name].tap
        if tap is not None and tap.meta.get(PLACE) == name:
            return 3, 0
        if name in self._modules:
            return 2, name.count(".")
        return int(name.rpartition("@")[0] in self._modules), name.count(".")

    @cached_property
    def _modules(self) -> set[str]:
        return {_own_name(path) for path, _ in self.traced.root.named_modules() if path.startswith(f"{PREFIX}.")}

    @cached_property
    def _masks(self) -> set[fx.Node]:
        """What tells of the sample only what is true of it, such as which tokens are there; it rides along."""
        heavy = {self.traced.nodes[position] for position in self.heavy}
        masks: set[fx.Node] = set()
        for node in self.traced.nodes:
            read = [source for source in node.all_input_nodes if source.op != "get_attr"]
            if read and node not in heavy and (self.facts[node].boolean or masks.issuperset(read)):
                masks.add(node)
        return masks

    @cached_property
    def _layouts(self) -> Layouts:
        return layouts_of(self.traced.nodes, self.facts, self.traced.root)

    def _point(self, name: str, place: Place) -> Point:
        """A cut at a place where one can cut."""
        assert place.tap is not None
        rest = tuple(node for node in self.alive(place.position) if node is not place.tap)
        shape = self.facts[place.tap].shape
        layout = self._layouts[place.tap]
        kind = KINDS[len(shape)]
        if kind == "tokens" and layout is not None and layout.series:
            kind = "sequence"
        usual = 1 if kind in ("map", "vector", "views") else len(shape)
        axis = usual if layout is None or kind in ("vector", "views") else layout.axis
        return Point(name, place.position, (place.tap, *rest), kind, axis)

    @cached_property
    def heavy(self) -> list[int]:
        """Positions of convolutions, matrix products and modules that own a matrix."""
        return [i for i, node in enumerate(self.traced.nodes) if _is_heavy(node, self.traced.root)]

    @cached_property
    def _shared(self) -> list[tuple[int, int, str]]:
        """(first use, last use, name) of every weight that several nodes use."""
        uses: dict[int, list[int]] = {}
        names: dict[int, str] = {}
        for position, node in enumerate(self.traced.nodes):
            if self._may_share(node):
                continue
            # One node stands for all reads of a parameter by itself: they are its users.
            at = self._uses[node] if node.op == "get_attr" else [position]
            for name, identity in _state_of(node, self.traced.root):
                uses.setdefault(identity, []).extend(at)
                names.setdefault(identity, name)
        return [(min(at), max(at), names[key]) for key, at in uses.items() if len(set(at)) > 1]

    def _may_share(self, node: fx.Node) -> bool:
        """Whether a node's weights may be used by several segments."""
        if node.op in ("call_module", "get_attr") and f"{node.target}.".startswith(self._shared_paths):
            return True
        return node.op == "call_module" and isinstance(
            attribute(self.traced.root, str(node.target)), self._shared_types
        )

    def problem(self, place: Place) -> str | None:
        """Why one cannot cut at a place; None if one can."""
        if place.tap is None or self.facts[place.tap].kind != "tensor":
            return "its output is not one tensor"
        tap = self.facts[place.tap]
        if not tap.batched:
            return "the first dimension of its output is not the batch"
        if not tap.floating or len(tap.shape) not in KINDS or (len(tap.shape) == 4 and tap.shape[0] != self.views):
            readable = "[N, D], sequences [N, T, D] and maps [N, C, H, W]"
            if self.views or len(tap.shape) == 4:
                readable += f", of samples that are views (`input: {{views: true}}`) [N, {self.views or 'V'}, C, H, W]"
            return f"its output is {['N', *tap.shape]}; heads read {readable}"
        if place.tap in self.traced.dead:
            return "nothing reads its output"
        if place.position >= len(self.traced.nodes) - 2:
            return "nothing comes after it"
        for node in self.alive(place.position):
            fact = self.facts[node]
            if fact.kind != "tensor" or not fact.batched:
                value = _own_name(str(node.target)) if node.op == "call_module" else node.name
                return f"'{value}' is needed after it and is not a tensor with the batch first"
        for first, last, name in self._shared:
            if first <= place.position < last:
                return f"'{_own_name(name)}' is used before and after it, and no two segments may share a weight"
        return None

    def auto(self) -> list[Point]:
        """Between two heavy nodes, the last place where one single tensor is alive, beside masks.

        Nothing before the first heavy node, and nothing after which only the classifier (the last heavy node) remains:
        an exit there would be that classifier again.

        Raises:
            SplitError: there is no such place.
        """
        points = []
        for before, after in list(pairwise(self.heavy))[:-1]:
            for position in reversed(range(before, after)):
                alive = [node for node in self.alive(position) if node not in self._masks]
                place = Place(position, alive[0] if len(alive) == 1 else None)
                if place in self._names and self.problem(place) is None:
                    points.append(self._point(self._names[place], place))
                    break
        if not points:
            raise SplitError(
                f"cannot cut {self.traced.name}",
                got=self._why_none(),
                expected="a place between two of them, and before the last one, where a single tensor is alive",
                do=f"Name the cuts yourself (in a study: space.cuts.candidates). {self._possible()}",
            )
        return points

    def _why_none(self) -> str:
        kept = [f"'{_own_name(path)}' is kept whole ({why})" for path, why in self.traced.whole.items()]
        return "; ".join([f"{len(self.heavy)} convolutions or matrix products", *kept[:3]])

    def chosen(self, names: Sequence[str]) -> list[Point]:
        """The places that a user named, in the order of the network.

        Raises:
            SplitError: a name is unknown, ambiguous or given twice, or one cannot cut there.
        """
        points: dict[int, Point] = {}
        for name in names:
            place = self._find(name)
            problem = self.problem(place)
            if problem is not None:
                raise SplitError(f"cannot cut {self.traced.name} after '{name}': {problem}", do=self._possible())
            if place.position in points:
                other = points[place.position].name
                raise SplitError(f"the cuts '{other}' and '{name}' are the same place", do="Leave one of them out.")
            points[place.position] = self._point(name, place)
        return [points[position] for position in sorted(points)]

    def _find(self, name: str) -> Place:
        if name in self.named:
            return self.named[name]
        what = f"cannot cut {self.traced.name} after '{name}'"
        if f"{name}@1" in self.named:
            calls = [other for other in self.named if other.rpartition("@")[0] == name]
            raise SplitError(f"{what}: it is called {len(calls)} time(s)", expected=f"one of {', '.join(calls)}")
        if name in self._modules:
            around = [path for path in map(_own_name, self.traced.whole) if name.startswith(f"{path}.")]
            why = f"it runs inside '{around[0]}', which is kept whole" if around else "the forward never calls it"
            raise SplitError(f"{what}: {why}", do=self._possible())
        close = difflib.get_close_matches(name, self.named, n=3)
        hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
        raise SplitError(f"{what}: there is no such module", do=f"{hint}{self._possible()}")

    def _possible(self) -> str:
        possible = [name for name, place in self.named.items() if self.problem(place) is None]
        shown = ", ".join(possible[:40]) + (", ..." if len(possible) > 40 else "")
        return f"Possible cuts: {shown or 'none'}."


def _own_name(path: str) -> str:
    """A path as the user knows it, without the root's prefix."""
    return path.removeprefix(f"{PREFIX}.")


def _is_heavy(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        return any(
            parameter.dim() >= 2
            for module in attribute(root, str(node.target)).modules()
            if not isinstance(module, _NORMS)
            for parameter in module.parameters(recurse=False)
        )
    return (node.op == "call_function" and node.target in _HEAVY_FUNCTIONS) or (
        node.op == "call_method" and node.target in _HEAVY_METHODS
    )


def _state_of(node: fx.Node, root: nn.Module) -> list[tuple[str, int]]:
    """(name, identity) of the weights a node uses: a module's buffers too, a buffer read by itself not."""
    if node.op == "call_module":
        module = attribute(root, str(node.target))
        tensors = [*module.named_parameters(), *module.named_buffers()]
        return [(f"{node.target}.{name}", id(tensor)) for name, tensor in tensors]
    if node.op == "get_attr" and isinstance(attribute(root, str(node.target)), nn.Parameter):
        return [(str(node.target), id(attribute(root, str(node.target))))]
    return []
