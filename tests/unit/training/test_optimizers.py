import pytest
import torch
from torch import nn

from eesearch.core.design import TrainSpec
from eesearch.training.optimizers import annealed, make_optimizer


def test_schedules_go_from_one_to_zero():
    assert [annealed("constant", done) for done in (0.0, 0.5, 1.0)] == [1, 1, 1]
    assert [annealed("linear", done) for done in (0.0, 0.25, 1.0)] == [1, 0.75, 0]
    assert [annealed("cosine", done) for done in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0])


def test_each_part_is_a_group():
    parts = {"a": [nn.Parameter(torch.zeros(2))], "b": [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4))]}
    optimizer = make_optimizer(parts, TrainSpec())
    assert [(group["part"], len(group["params"])) for group in optimizer.param_groups] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_first_step_by_the_book(name):
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer({"a": [weight]}, TrainSpec(optimizer=name, lr=0.1, weight_decay=0.5))
    weight.grad = torch.tensor([3.0])
    optimizer.step()
    # adam: the sign of the gradient; adamw: that, and decay apart; sgd: (1 + momentum) times gradient with decay
    expected = {"adam": 2 - 0.1, "adamw": 2 * (1 - 0.1 * 0.5) - 0.1, "sgd": 2 - 0.1 * 1.9 * (3 + 0.5 * 2)}
    assert weight.item() == pytest.approx(expected[name], rel=1e-5)
