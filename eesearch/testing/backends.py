"""What every back end does."""

from __future__ import annotations

import copy
import sys
from typing import Any

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.errors import CostError, InputError
from eesearch.core.registry import BACKENDS
from eesearch.costs.backends import Backend, Call
from eesearch.testing.seeds import seeded


class BackendContract:
    """What every back end of the BACKENDS registry does, shown on two small modules.

    A test class says which back end:

        class TestMine(BackendContract):
            backend = "mine"

    Attributes:
        backend: Its name in the registry: `NAME`, or `KIND:NAME` for one kind of device.
    """

    backend: str

    def test_says_where_it_runs(self) -> None:
        """On at least one kind of device, and it is found there."""
        kinds = self._registered.kinds
        assert kinds
        assert set(kinds) <= {"cpu", "cuda"}
        assert self._registered.tolerance <= 1e-2, "it is to give what the network gives"

    def test_gives_what_the_module_gives(self) -> None:
        """Within its tolerance, however often it is called."""
        module, x = _convolutional(), _samples(1)
        call = self._loaded(module, (x,))
        for _ in range(2):
            self._same(self._called(call, x), (_eager(module, x)))

    def test_keeps_nothing_between_calls(self) -> None:
        """What was given stays as it is when the call is used again, on other samples."""
        module, x, other = _convolutional(), _samples(1), _samples(1, seed=1)
        call = self._loaded(module, (x,))
        with torch.inference_mode():
            first = call(self._registered.native(x))
            before = [_array(each).copy() for each in first]
            call(self._registered.native(other))
        for kept, was in zip(first, before, strict=True):
            np.testing.assert_array_equal(_array(kept), was)
        self._same(self._called(call, other), _eager(module, other))

    def test_takes_several_inputs_and_gives_several_outputs(self) -> None:
        """In their order, of any type."""
        module, a, b = _Several().eval(), _samples(1), _samples(1, seed=1)
        self._same(self._called(self._loaded(module, (a, b)), a, b), _eager(module, a, b))

    def test_parts_can_be_chained(self) -> None:
        """What one call gives is what the next one takes."""
        first, second, x = _convolutional()[:2].eval(), _convolutional()[2:].eval(), _samples(1)
        with torch.inference_mode():
            hidden = first(x)
        before, after = self._loaded(first, (x,)), self._loaded(second, (hidden,))
        with torch.inference_mode():
            made = after(*before(self._registered.native(x)))
        self._same([_array(each) for each in made], _eager(_convolutional(), x))

    def test_module_and_inputs_are_left_as_they_were(self) -> None:
        """Neither preparing nor loading nor calling changes them, nor where they lie."""
        module, x = _convolutional(), _samples(1)
        weights, given = copy.deepcopy(module.state_dict()), x.clone()
        self._called(self._loaded(module, (x,)), x)
        assert torch.equal(x, given)
        assert not any(part.training for part in module.modules())
        for name, tensor in module.state_dict().items():
            assert tensor.device == weights[name].device
            assert torch.equal(tensor, weights[name]), name

    def test_other_numbers_of_samples(self) -> None:
        """Are computed right where it says that it takes them, and refused where it does not."""
        module = _convolutional()
        for loaded, called in ((1, 3), (3, 2), (2, 1)):
            if self._registered.largest and max(loaded, called) > self._registered.largest and loaded > 1:
                continue
            call, x = self._loaded(module, (_samples(loaded),)), _samples(called)
            if self._registered.batches:
                self._same(self._called(call, x), _eager(module, x))
                continue
            try:
                self._called(call, x)
            except InputError:
                continue
            raise AssertionError(f"loaded for {loaded} samples, it took {called}")

    def test_batches_as_large_as_it_says(self) -> None:
        """A batch is its samples one by one."""
        size = self._registered.largest or 5
        module, x = _convolutional(), _samples(size)
        self._same(self._called(self._loaded(module, (x,)), x), _eager(module, x))

    def test_results_are_ready(self) -> None:
        """When the call returns nothing is left to do: what is timed is the whole of it."""
        module, x = _convolutional(), _samples(1)
        call = self._loaded(module, (x,))
        with torch.inference_mode():
            made = call(self._registered.native(x))
        for each in made:
            assert isinstance(each, Tensor | np.ndarray), "outputs are tensors or arrays"
        if torch.cuda.is_available():
            assert torch.cuda.current_stream().query(), "the GPU has finished"

    def test_a_missing_library_is_told(self, monkeypatch: Any) -> None:
        """With what to install."""
        for library in self._registered.libraries:
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, library, None)
                said = self._complaint()
            assert f"{library} is not installed" in said
            assert f"pip install 'eesearch[{self._registered.extra}]'" in said

    def _complaint(self) -> str:
        try:
            self._registered.require()
        except CostError as error:
            return str(error)
        return "nothing"

    @property
    def _registered(self) -> Backend:
        found = BACKENDS[self.backend]
        assert isinstance(found, Backend)
        return found

    def _loaded(self, module: nn.Module, args: tuple[Tensor, ...]) -> Call:
        """As in a measurement."""
        prepared = self._registered.prepare(module, args)
        assert cloudpickle.dumps(prepared), "it is sent to the process that measures"
        with torch.inference_mode():
            return self._registered.load(prepared, args, 1)

    def _called(self, call: Call, *inputs: Tensor) -> list[NDArray[Any]]:
        with torch.inference_mode():
            made = call(*map(self._registered.native, inputs))
        assert isinstance(made, tuple)
        return [_array(each) for each in made]

    def _same(self, made: list[NDArray[Any]], expected: list[NDArray[Any]]) -> None:
        tolerance = self._registered.tolerance
        for ours, theirs in zip(made, expected, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


class _Several(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = (a + b).flatten(1)
        return total, a - b, total.argmax(-1)


def _convolutional() -> nn.Sequential:
    with seeded(0):
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
        return nn.Sequential(*layers).eval()


def _samples(count: int, *, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def _eager(module: nn.Module, *inputs: Tensor) -> list[NDArray[Any]]:
    with torch.inference_mode():
        made = module(*inputs)
    return [each.numpy() for each in (made if isinstance(made, tuple) else (made,))]


def _array(output: Any) -> NDArray[Any]:
    return np.asarray(output.cpu() if isinstance(output, Tensor) else output)
