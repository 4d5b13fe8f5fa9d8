"""Multiply-adds of a module, by one rule; whatever the rule does not name raises. Unknown is never 0.

Counted: convolutions, matrix products, attention, recurrences; a comparison of a decision tree counts 1. Norms,
pooling, activations, other elementwise work, look-ups and shape operations count 0, because `ZERO` lists them. The
graph comes from fvcore (torch.jit.trace), the rules are ours: fvcore counts norms and pooling, and does not count
attention and recurrences.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from eesearch.core.errors import CostError, EesearchError
from eesearch.nets.modes import evaluating

if TYPE_CHECKING:
    from fvcore.nn import FlopCountAnalysis

RULES_VERSION = "2"
"""Part of a profile's fingerprint: raise it when a count changes."""

Values = Sequence[Any]
Rule = Callable[[Values, Values], int]
"""`(inputs, outputs)` of a traced node (torch._C.Value) -> multiply-adds; see `shape`."""


def shape(value: Any) -> list[int]:
    """Sizes of a traced tensor.

    Raises:
        CostError: the trace does not know them.
    """
    sizes = value.type().sizes() if value.isCompleteTensor() else None
    if sizes is None:
        raise CostError(f"the trace does not know the shape of an operand of {value.node().kind()}")
    return list(sizes)


def _convolution(inputs: Values, outputs: Values) -> int:
    # weight: [out, in / groups, *kernel], transposed: [in, out / groups, *kernel]; groups are in its shape already
    transposed = len(inputs) > 7 and bool(inputs[6].toIValue())
    places = shape(inputs[0] if transposed else outputs[0])
    return places[0] * prod(places[2:]) * prod(shape(inputs[1]))


def _linear(inputs: Values, outputs: Values) -> int:
    return prod(shape(inputs[0])) * shape(inputs[1])[0]


def _product(first: int) -> Rule:
    """A matrix product whose operands start at input `first`: every output sums over the last axis of the left one."""

    def rule(inputs: Values, outputs: Values) -> int:
        left, right = shape(inputs[first]), shape(inputs[first + 1])
        rows = left[:-1]
        if len(right) == 1:
            return prod(rows) * left[-1]
        batch = np.broadcast_shapes(rows[:-1], right[:-2])
        return prod(batch) * (rows[-1] if rows else 1) * left[-1] * right[-1]

    return rule


def _addbmm(inputs: Values, outputs: Values) -> int:
    return prod(shape(inputs[1])) * shape(inputs[2])[-1]


def _einsum(inputs: Values, outputs: Values) -> int:
    equation = inputs[0].toIValue().replace(" ", "")
    operands = [shape(v) for v in inputs[1].node().inputs()]
    if len(operands) == 1:
        return 0
    if len(operands) > 2:
        raise CostError(f"einsum '{equation}' of {len(operands)} operands", do="Write it as products of two.")
    sizes: dict[str, int] = {}
    spread: list[list[int]] = []
    for labels, sizes_of in zip(equation.split("->")[0].split(","), operands, strict=True):
        before, dots, after = labels.partition("...")
        stop = len(sizes_of) - len(after)
        spread.append(sizes_of[len(before) : stop] if dots else [])
        named = [*zip(before, sizes_of, strict=False), *zip(after, sizes_of[stop:], strict=False)]
        for label, size in named:
            sizes[label] = max(size, sizes.get(label, 1))
    return prod(sizes.values()) * prod(np.broadcast_shapes(*spread))


def _attention(inputs: Values, outputs: Values) -> int:
    # softmax(q k^T) v = B * H * N * M * (dk + dv)
    query, key, out = shape(inputs[0]), shape(inputs[1]), shape(outputs[0])
    return prod(out[:-1]) * key[-2] * (query[-1] + out[-1])


def _recurrence(inputs: Values, outputs: Values) -> int:
    # every weight matrix (of each layer, direction, and a projection) is applied once per time step and sample
    lists = [v.node() for v in inputs if v.node().kind() == "prim::ListConstruct"]
    weights = [shape(v) for v in lists[-1].inputs()]
    return prod(shape(inputs[0])[:-1]) * sum(prod(w) for w in weights if len(w) == 2)


def _comparison(inputs: Values, outputs: Values) -> int:
    # a node of a tree looks its feature up in each sample; other comparisons are elementwise work
    return prod(shape(outputs[0])) if inputs[0].node().kind() == "aten::gather" else 0


def _refuse_scripted(inputs: Values, outputs: Values) -> int:
    raise CostError(
        "the model calls a scripted function (torch.jit.script), whose operations cannot be counted",
        do="Call the Python function itself.",
    )


MAC_RULES: dict[str, Rule] = {
    **dict.fromkeys(("aten::_convolution", "aten::_convolution_mode"), _convolution),
    "aten::linear": _linear,
    **dict.fromkeys(("aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot"), _product(0)),
    **dict.fromkeys(("aten::addmm", "aten::addmv", "aten::baddbmm"), _product(1)),
    "aten::addbmm": _addbmm,
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
    **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), _recurrence),
    **dict.fromkeys(("aten::gt", "aten::ge", "aten::lt", "aten::le"), _comparison),
    **dict.fromkeys(("prim::CallFunction", "prim::CallMethod", "prim::If", "prim::Loop"), _refuse_scripted),
}
"""Operation -> its rule. Add an entry to count an operation that is not here: `MAC_RULES["my::op"] = rule`."""

_NORMS = """batch_norm layer_norm group_norm instance_norm native_batch_norm native_layer_norm native_group_norm
rms_norm local_response_norm norm linalg_vector_norm frobenius_norm"""
_POOLING = """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices
max_pool2d_with_indices max_pool3d_with_indices lp_pool1d lp_pool2d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d grid_sampler
grid_sampler_2d grid_sampler_3d"""
_ACTIVATIONS = """relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid
log_sigmoid tanh softplus softsign softshrink hardshrink tanhshrink threshold glu softmax log_softmax _softmax
_log_softmax dropout feature_dropout alpha_dropout feature_alpha_dropout"""
_ELEMENTWISE = """add sub rsub mul div true_divide floor_divide remainder fmod neg abs sign exp exp2 expm1 log log1p
log2 log10 sqrt rsqrt square pow reciprocal sin cos tan asin acos atan atan2 sinh cosh erf erfc erfinv floor ceil round
trunc frac clamp clamp_min clamp_max minimum maximum lerp addcmul addcdiv eq ne lt le gt ge logical_and logical_or
logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor __and__ __or__ __xor__ where isnan isinf
isfinite nan_to_num masked_fill masked_scatter"""
_REDUCTIONS = """sum mean std var std_mean var_mean prod max min amax amin argmax argmin all any cumsum cumprod
logsumexp median mode sort topk argsort unique nonzero count_nonzero"""
_LOOKUPS = """embedding embedding_bag gather index index_select index_put index_add index_copy index_fill scatter
scatter_add take take_along_dim one_hot bucketize searchsorted masked_select"""
_SHAPES = """Int Bool Float IntImplicit ScalarImplicit FloatImplicit item size numel dim arange linspace empty
empty_like zeros zeros_like ones ones_like full full_like new_empty new_full new_zeros new_ones eye tril triu rand
randn rand_like
randn_like bernoulli cat concat stack hstack vstack dstack chunk split split_with_sizes unsafe_chunk unsafe_split
unsafe_split_with_sizes tensor_split unbind
unsqueeze squeeze view view_as reshape reshape_as flatten unflatten ravel permute transpose t movedim swapaxes
contiguous clone copy detach alias to type_as _to_copy expand expand_as broadcast_to repeat repeat_interleave tile
narrow select slice unfold flip fliplr flipud roll rot90 pad constant_pad_nd reflection_pad1d reflection_pad2d
reflection_pad3d replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle
diagonal diag meshgrid fill zero requires_grad lift_fresh lift_fresh_copy im2col col2im _shape_as_tensor as_strided
as_tensor tensor scalar_tensor resolve_conj _pack_padded_sequence _pad_packed_sequence broadcast_tensors
__getitem__ __derive_index __range_length len format warn complex real imag"""

ZERO: frozenset[str] = frozenset(
    f"aten::{name}{in_place}"
    for group in (_NORMS, _POOLING, _ACTIVATIONS, _ELEMENTWISE, _REDUCTIONS, _LOOKUPS, _SHAPES)
    for name in group.split()
    for in_place in ("", "_")
)
"""Operations that count 0 by the rule, with their in-place forms."""


def count_macs(module: nn.Module, args: tuple[Tensor, ...]) -> float:
    """Multiply-adds of `module(*args)` in eval mode, for the whole batch that `args` holds.

    The module is left as it was: modes, hooks, gradients. What a data-dependent `if` skips for `args` is not counted.

    Args:
        module: Any module that `torch.jit.trace` can follow.
        args: Its positional inputs.

    Raises:
        CostError: the module cannot be traced, or runs an operation without a rule.
    """
    analysis = _analysis(module, args)
    with _as_it_was(module), _quiet_tracer(), torch.no_grad():
        try:
            total = float(analysis.total())
        except EesearchError:
            raise
        except Exception as error:  # whatever the user's forward or the tracer raises
            raise CostError(
                f"{type(module).__name__} cannot be traced to count its multiply-adds",
                got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                do="A model must run on the example under torch.jit.trace.",
            ) from error
    _refuse_unknown(analysis, module)
    return total


def _analysis(module: nn.Module, args: tuple[Tensor, ...]) -> FlopCountAnalysis:
    with _quiet_tracer():
        from fvcore.nn import FlopCountAnalysis  # its import scripts functions, which warns and takes a second

    analysis = FlopCountAnalysis(module, args).clear_op_handles()
    analysis.set_op_handle(**dict.fromkeys(ZERO)).set_op_handle(**MAC_RULES)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def _refuse_unknown(analysis: FlopCountAnalysis, module: nn.Module) -> None:
    unknown = sorted(analysis.unsupported_ops())
    if not unknown:
        return
    places = [
        f"{op} in '{max((n for n, _ in module.named_modules() if op in analysis.unsupported_ops(n)), key=len)}'"
        for op in unknown
    ]
    raise CostError(
        f"no rule counts the multiply-adds of {', '.join(places)} of {type(module).__name__}",
        do=f"Register one: `eesearch.costs.macs.MAC_RULES['{unknown[0]}'] = lambda inputs, outputs: ...`.",
    )


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Eval mode; restores modes, hooks (fvcore leaves its own behind when a trace fails), the attention fast path."""
    before = [(m, tuple(m._forward_pre_hooks), tuple(m._forward_hooks)) for m in module.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fast path is one fused operation without shapes inside
    try:
        with evaluating(module):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, pre_hooks, hooks in before:
            for kept, now in ((pre_hooks, part._forward_pre_hooks), (hooks, part._forward_hooks)):
                for key in set(now) - set(kept):
                    del now[key]


@contextmanager
def _quiet_tracer() -> Iterator[None]:
    """The tracer is deprecated, and fvcore logs what `_refuse_unknown` raises."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*", category=DeprecationWarning)
            yield
    finally:
        logger.disabled = disabled
