"""Back ends on GPUs: PyTorch eager and compiled, and CUDA graphs. Calls return when the GPU has finished."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.errors import CostError
from eesearch.core.registry import BACKENDS
from eesearch.costs.backends import Args, Backend, Call, as_module, compiled_for
from eesearch.nets.graphs import as_tuple

WARMUP = 3
"""Calls before a graph is captured: libraries choose their algorithms and allocate in the first ones."""


def require_cuda(device: str) -> None:
    """Refuse a device where there is no GPU that torch can use.

    Raises:
        CostError: there is none.
    """
    if not torch.cuda.is_available():
        raise CostError(
            f"the device '{device}' is not available",
            got="no GPU that torch can use" if torch.version.cuda else "a torch built without CUDA",
            expected="an NVIDIA GPU, its driver, and a torch built for CUDA",
        )


def gpu_facts() -> dict[str, str]:
    """Name, driver and CUDA version of the GPU in use."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        text = ""
    driver = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": driver[1] if driver else "unknown",
        "cuda": torch.version.cuda or "none",
        "cudnn": str(torch.backends.cudnn.version()),
    }


def _native(tensor: Tensor) -> Tensor:
    return tensor.cuda()


def _placed(module: nn.Module) -> nn.Module:
    """A copy on the GPU, in single precision proper: TF32 would not give what was trained."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return copy.deepcopy(module).cuda()


def _synchronised(run: Any) -> Call:
    def call(*inputs: Tensor) -> tuple[Any, ...]:
        made = tuple(as_tuple(run(*inputs)))
        torch.cuda.synchronize()
        return made

    return call


def _load_eager(module: nn.Module, args: Args, threads: int) -> Call:
    return _synchronised(_placed(module))


def _load_compiled(module: nn.Module, args: Args, threads: int) -> Call:
    return _synchronised(compiled_for(_placed(module), tuple(tensor.cuda() for tensor in args)))


def _load_graph(module: nn.Module, args: Args, threads: int) -> Call:
    """Recorded once for the number of samples of `args`, then replayed: one launch instead of one per kernel."""
    placed = _placed(module)
    given = [tensor.cuda() for tensor in args]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            placed(*given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = as_tuple(placed(*given))
    return _replayed(graph, given, made)


def _replayed(graph: Any, given: Sequence[Tensor], made: Sequence[Tensor]) -> Call:
    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        for own, tensor in zip(given, inputs, strict=True):
            if own.shape != tensor.shape:
                raise CostError(
                    "a CUDA graph was captured for another shape", got=list(tensor.shape), expected=list(own.shape)
                )
            own.copy_(tensor)
        graph.replay()
        found = tuple(tensor.clone() for tensor in made)  # the graph's own memory is written again
        torch.cuda.synchronize()
        return found

    return call


BACKENDS.register("cuda:eager")(Backend(("cuda",), as_module, _load_eager, _native, tolerance=1e-4))
BACKENDS.register("cuda:compile")(Backend(("cuda",), as_module, _load_compiled, _native, tolerance=1e-3, loading=10.0))
BACKENDS.register("cudagraph")(Backend(("cuda",), as_module, _load_graph, _native, tolerance=1e-4, batches=False))
