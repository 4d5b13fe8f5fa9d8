import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.design import ExitSpec, HeadSpec
from eesearch.core.errors import EesearchError
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.inputs import as_tensor
from eesearch.nets.split import split
from eesearch.training import collect as collecting
from eesearch.training.bank import build_heads
from eesearch.training.collect import collect
from eesearch.training.data import Split


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Dropout(0.5), nn.ReLU(), nn.Linear(5, 3))
    backbone = split(model, torch.zeros(1, 4))
    exits = [ExitSpec(cut=cut.name, head=HeadSpec()) for cut in backbone.cuts]
    return ExitNet(backbone, build_heads(backbone, exits, 0))


def samples(n=10):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    return Split("cal", x, np.arange(n) % 3)


def test_the_table_is_what_the_network_says():
    net, data, told, runs = network(), samples(), [], []
    net.train()
    net.backbone.segments[0].register_forward_hook(lambda module, args, out: runs.append(len(args[0])))
    table = collect(net, data, batch_size=4, progress=lambda *event: told.append(event))
    assert runs == [4, 4, 2]
    assert told == [("collect cal", 4, 10), ("collect cal", 8, 10), ("collect cal", 10, 10)]
    assert net.training
    with torch.no_grad():
        expected = torch.stack(net.eval()(torch.from_numpy(data.x))).numpy()
    np.testing.assert_allclose(table.logits, expected, rtol=1e-5, atol=1e-6)
    assert table.logits.dtype == np.float32
    assert table.exits == net.exits
    assert (table.split, table.samples) == ("cal", data.key)
    assert table.labels.tolist() == data.y.tolist()


def test_values_that_are_not_finite_are_refused_by_name():
    net = network()
    with torch.no_grad():
        net.heads[0].body[-1].bias.fill_(torch.nan)
    first = net.exits[0]
    with pytest.raises(EesearchError, match=f"not finite on the cal split; got {first.cut}:{first.head}\\."):
        collect(net, samples())


def test_mapped_samples_are_read_batch_by_batch(tmp_path, monkeypatch):
    net, data, read = network(), samples(), []
    np.save(tmp_path / "x.npy", data.x)
    mapped = Split("cal", np.load(tmp_path / "x.npy", mmap_mode="r"), data.y)
    monkeypatch.setattr(collecting, "as_tensor", lambda x: read.append(len(x)) or as_tensor(x))
    table = collect(net, mapped, batch_size=4)
    assert read == [4, 4, 2]
    np.testing.assert_array_equal(table.logits, collect(net, data, batch_size=4).logits)
