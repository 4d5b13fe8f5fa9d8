"""Where trainings run; what needs a GPU is skipped without one."""

import pytest
import torch
from torch import nn

from eesearch.core.errors import InputError
from eesearch.training.accelerator import CPU, device_of, find_device, mixed_precision, moved, placed


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto").type == "cuda"
    assert find_device("cuda").type == "cuda"
    assert find_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == CPU


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device"):
        find_device("cuda")


def test_the_cpu_computes_in_full_precision():
    layer, x = nn.Linear(3, 2), torch.rand(4, 3)
    with mixed_precision(CPU):
        inside = layer(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, layer(x))


def test_bfloat16_only_where_the_device_knows_it(monkeypatch):
    for knows in (True, False):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, knows=knows: knows or including_emulation,
        )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert mixed_precision(torch.device("cuda"))._enabled is knows


def test_a_module_comes_back_from_where_it_was_placed():
    meta, layer = torch.device("meta"), nn.Linear(3, 2)
    assert device_of(layer) == CPU == device_of(nn.ReLU())
    with placed(nn.Linear(3, 2, device=meta), meta) as nothing:
        assert nothing is None
    with placed(layer, CPU):
        assert device_of(layer) == CPU
    assert device_of(nn.Linear(3, 2, device=meta)) == meta


def test_batches_move_whole():
    meta = torch.device("meta")
    assert moved(torch.ones(2), meta).device == meta
    many = moved({"a": torch.ones(2), (1, 0): torch.ones(3)}, meta)
    assert [tensor.device for tensor in many.values()] == [meta, meta]
    assert list(many) == ["a", (1, 0)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_design_learns_on_cuda_and_comes_back():
    from eesearch.core.design import TrainSpec
    from eesearch.training.loop import train_backbone
    from eesearch.training.samples import Samples

    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    network = nn.Linear(3, 2)
    with placed(network, torch.device("cuda")):
        trained = train_backbone(network, Samples(x, (x[:, 0] > 0).long()), TrainSpec(epochs=20, lr=0.05))
        assert device_of(trained).type == "cuda"
    assert (trained.cpu()(x).argmax(-1) == (x[:, 0] > 0)).float().mean() > 0.9
