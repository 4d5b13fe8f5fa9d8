"""What every registered back end must do."""

import pytest
import torch
from torch import nn

from eesearch.core.errors import InputError
from eesearch.core.registry import BACKENDS


@pytest.fixture(params=sorted(BACKENDS))
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture
def network():
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers).eval()


def test_call_gives_what_the_module_gives(backend, network):
    generator = torch.Generator().manual_seed(0)
    args = (torch.randn(1, 1, 8, 8, generator=generator),)
    with torch.inference_mode():
        call = backend(network, args)
        for _ in range(2):  # calls keep nothing from one to the next
            torch.testing.assert_close(call(), network(*args), rtol=1e-5, atol=1e-5)


def test_several_inputs_and_outputs(backend):
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b, a - b

    args = (torch.ones(1, 3), torch.full((1, 3), 2.0))
    with torch.inference_mode():
        total, difference = backend(Sum(), args)()
    assert total.tolist() == [[3.0] * 3]
    assert difference.tolist() == [[-1.0] * 3]


def test_module_and_inputs_are_left_as_they_were(backend, network):
    x = torch.ones(1, 1, 8, 8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.inference_mode():
        backend(network, (x,))()
    assert x.eq(1).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_errors_of_the_module_come_through(backend, network):
    with pytest.raises(RuntimeError), torch.inference_mode():
        backend(network, (torch.ones(1, 2),))()


def test_unknown_back_end_lists_the_known_ones():
    with pytest.raises(InputError, match=r"no back end 'warp'.*eager"):
        BACKENDS["warp"]
