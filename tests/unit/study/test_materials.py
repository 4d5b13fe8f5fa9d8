import pytest
import torch

from eesearch.core.errors import HeadError
from eesearch.nets.split import split
from eesearch.nets.zoo import mlp, residual_cnn
from eesearch.study.materials import fitting_heads
from eesearch.study.space import SearchSpace


def names(model, example, *heads):
    found = fitting_heads(SearchSpace.model_validate({"heads": heads}), split(model, example))
    return [[head.name for head in at_cut] for at_cut in found.values()]


def test_on_a_vector_heads_that_differ_in_pooling_alone_are_one():
    vectors = mlp(features=12, hidden=(8, 6), classes=3)
    trees = [{"kind": "tree", "depth": depth, "size": size} for depth in (2, 3) for size in (1, 2)]
    boosted = [{"kind": "boosting", "rounds": rounds, "pool": pool} for rounds in (1, 2) for pool in ("avg", "mixed")]
    gated = [{"kind": "linear", "gate": gate} for gate in ("none", "linear")]
    kept = ["tree2-avg1", "tree3-avg1", "boosting1x5-avg1", "boosting2x5-avg1", "linear-avg1", "linear-avg1-gate"]
    assert names(vectors, torch.zeros(1, 12), *trees, *boosted, *gated) == [kept]


def test_a_head_goes_where_it_fits():
    maps = residual_cnn(channels=(4, 4, 4), blocks=1, classes=3, in_channels=1)
    heads = names(maps, torch.zeros(1, 1, 4, 4), {"kind": "tree"}, {"kind": "svm", "size": 3})
    assert heads[0] == ["tree5-avg1", "svm-avg3"]
    assert heads[-1] == ["tree5-avg1"]
    with pytest.raises(HeadError, match="fits no cut"):
        names(maps, torch.zeros(1, 1, 4, 4), {"kind": "tree"}, {"kind": "logistic", "pool": "none"})
