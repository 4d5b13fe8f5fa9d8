"""What runs a module on a device, by name: how it is prepared, loaded and called.

An entry `KIND:NAME` of the registry is taken for devices of that kind before an entry `NAME`.

Everything runs under `torch.inference_mode`, which is the caller's to enter, and in single precision.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from eesearch.core.errors import CostError
from eesearch.core.imports import need
from eesearch.core.registry import BACKENDS
from eesearch.nets.graph_export import export_onnx
from eesearch.nets.graphs import as_tuple
from eesearch.nets.programs import export_program

Call = Callable[..., tuple[Any, ...]]
"""`call(*native inputs) -> native outputs`, which are ready when it returns, and nobody else's to change."""

Args = tuple[Tensor, ...]


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Backend:
    """What runs modules on devices of some kinds.

    Attributes:
        kinds: Of device: `cpu`, `cuda`.
        prepare: `(module, example inputs on the CPU)` to something that can be pickled; once, in the parent. The module
            is in eval mode and stays as it was.
        load: `(prepared, example inputs, threads)` to a call; in the process that runs it. torch's own thread count is
            that process's to set.
        native: A tensor on the CPU as an input of calls.
        tolerance: Largest difference to what torch computes on the CPU, absolute and relative.
        libraries: Modules that must be importable.
        extra: The extra of eesearch that installs them.
        form: What `prepare` makes: a `module`, an `onnx` model as bytes for any number of samples (which may be cut
            out of a larger one: `nets.graphs`), or something of its own.
        batches: Whether a call takes other numbers of samples than its example inputs had; else it refuses.
        largest: The largest batch that it takes; 0: any.
        loading: Seconds that it takes to load a part, about.
    """

    kinds: tuple[str, ...]
    prepare: Callable[[nn.Module, Args], Any]
    load: Callable[[Any, Args, int], Call]
    native: Callable[[Tensor], Any] = _same
    tolerance: float = 1e-5
    libraries: tuple[str, ...] = ()
    extra: str = ""
    form: Literal["module", "onnx", "own"] = "module"
    batches: bool = True
    largest: int = 0
    loading: float = 0.0

    def require(self) -> None:
        """Import what it needs.

        Raises:
            CostError: a library is missing.
        """
        for library in self.libraries:
            need(library, self.extra, CostError)

    @property
    def versions(self) -> dict[str, str]:
        """Of the libraries, as they are called in a package index; torch is everybody's."""
        found = {}
        for library in self.libraries:
            try:
                found[library] = version(library.partition(".")[0])
            except PackageNotFoundError:  # a module that no distribution of its name brought
                continue
        return found


def find_backend(kind: str, name: str) -> Backend:
    """The back end of a device.

    Raises:
        CostError: there is none of this name, it does not run on this kind of device, or a library is missing.
    """
    known = ", ".join(sorted(backend_names(kind)))
    entry = f"{kind}:{name}" if f"{kind}:{name}" in BACKENDS else name
    if entry not in BACKENDS:
        raise CostError(f"there is no back end '{name}'", expected=f"one of {known}")
    found: Backend = BACKENDS[entry]
    if kind not in found.kinds:
        raise CostError(
            f"the back end '{name}' does not run on {kind}", got=f"{kind}:{name}", expected=f"one of {known}"
        )
    found.require()
    return found


def backend_names(kind: str) -> list[str]:
    """All back ends of a kind of device, whether their libraries are here or not."""
    return sorted({name.removeprefix(f"{kind}:") for name, found in BACKENDS.items() if kind in found.kinds})


def as_module(module: nn.Module, args: Args) -> nn.Module:
    """Nothing to prepare."""
    return module


def _load_eager(module: nn.Module, args: Args, threads: int) -> Call:
    """The module as PyTorch runs it, operation by operation."""
    return lambda *inputs: as_tuple(module(*inputs))


def _load_compiled(module: nn.Module, args: Args, threads: int) -> Call:
    """The module compiled by torch; once more for other numbers of samples, when they come."""
    compiled = compiled_for(module, args)
    return lambda *inputs: tuple(as_tuple(compiled(*inputs)))


def compiled_for(module: nn.Module, args: Args) -> Callable[..., Any]:
    """`torch.compile` of a module, done now; what it is called with later may have another size."""

    def run(*inputs: Tensor) -> Any:
        return module(*inputs)

    run.__code__ = run.__code__.replace()  # what is compiled is kept by code object: modules must not share one
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        compiled = torch.compile(run)
        compiled(*args)
    return compiled


def as_onnx(module: nn.Module, args: Args) -> bytes:
    """An ONNX model for any number of samples."""
    with torch.no_grad():
        outputs = len(as_tuple(module(*args)))
    inputs, names = [f"in_{i}" for i in range(len(args))], [f"out_{i}" for i in range(outputs)]
    return bytes(export_onnx(module, args, inputs, names, what="a part of the network").SerializeToString())


def _load_onnxruntime(model: bytes, args: Args, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: tuple(session.run(None, dict(zip(names, inputs, strict=True))))


def _load_openvino(model: bytes, args: Args, threads: int) -> Call:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    outputs = range(len(request.model_outputs))

    def call(*inputs: Any) -> tuple[Any, ...]:
        for i, array in enumerate(inputs):  # passing them to `infer` takes longer than a small network does
            request.set_input_tensor(i, openvino.Tensor(np.ascontiguousarray(array), shared_memory=True))
        request.infer()
        return tuple(request.get_output_tensor(i).data.copy() for i in outputs)

    return call


def _to_numpy(tensor: Tensor) -> Any:
    return tensor.numpy()


def as_program(module: nn.Module, args: Args) -> bytes:
    """An ExecuTorch program for one sample."""
    return export_program(module, args, what="a part of the network")


def _load_executorch(program: bytes, args: Args, threads: int) -> Call:
    from executorch.runtime import Runtime

    loaded = Runtime.get().load_program(program)
    method = loaded.load_method("forward")

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        _require_size(inputs, args, "executorch")
        made = method.execute([tensor.contiguous() for tensor in inputs])
        return tuple(tensor.clone() for tensor in made)  # the program's own memory is written again

    call.program = loaded  # type: ignore[attr-defined]  # it owns what the method runs
    return call


def _require_size(inputs: Args, args: Args, backend: str) -> None:
    """Refuse another number of samples than the one that a back end was loaded for."""
    if len(inputs[0]) != len(args[0]):
        raise CostError(
            f"the back end '{backend}' was loaded for another number of samples",
            got=len(inputs[0]),
            expected=len(args[0]),
        )


BACKENDS.register("eager")(Backend(("cpu",), as_module, _load_eager))
BACKENDS.register("compile")(Backend(("cpu",), as_module, _load_compiled, tolerance=1e-4, loading=10.0))
BACKENDS.register("onnxruntime")(
    Backend(
        ("cpu",),
        as_onnx,
        _load_onnxruntime,
        _to_numpy,
        tolerance=1e-4,
        libraries=("onnx", "onnxscript", "onnxruntime"),
        extra="onnx",
        form="onnx",
        loading=0.1,
    )
)
BACKENDS.register("openvino")(
    Backend(
        ("cpu",),
        as_onnx,
        _load_openvino,
        _to_numpy,
        tolerance=1e-4,
        libraries=("onnx", "onnxscript", "openvino"),
        extra="openvino",
        form="onnx",
        loading=0.1,
    )
)
BACKENDS.register("executorch")(
    Backend(
        ("cpu",),
        as_program,
        _load_executorch,
        tolerance=1e-4,
        libraries=("executorch.exir", "executorch.runtime"),
        extra="executorch",
        form="own",
        batches=False,
        largest=1,
    )
)
