"""What exporters read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.exporters import apart
from eesearch.nets.stages import route


class Counted(nn.Module):
    """Notes how many samples its segment is given at once."""

    def __init__(self, segment, sizes):
        super().__init__()
        self.segment, self.sizes = segment, sizes

    def forward(self, *carry):
        self.sizes.append(len(carry[0]))
        return self.segment(*carry)


@pytest.mark.parametrize("asks", [False, True])
def test_checks_compute_batch_by_batch(make_chosen, monkeypatch, asks):
    monkeypatch.setattr(apart, "BATCH", 25)
    chosen, sizes = make_chosen(criterion="margin", answer="mean", asks=asks), []
    first, *rest = chosen.stages
    counting = replace(chosen, stages=(replace(first, segment=Counted(first.segment, sizes)), *rest))
    with torch.inference_mode():
        whole = route(torch.from_numpy(chosen.samples), chosen.stages, chosen.criterion, chosen.parameters)
    said = counting.answers(chosen.samples)
    assert sizes == [25, 25, 14]
    np.testing.assert_array_equal(said.answer, whole.answer)
    np.testing.assert_array_equal(said.exit, whole.exit)
    np.testing.assert_allclose(said.score, whole.score, rtol=1e-5)
    scores = counting.scores(chosen.samples)
    assert max(sizes) == 25
    assert scores.shape == (len(chosen.stages), len(chosen.samples))
    left = whole.exit < len(chosen.stages)
    np.testing.assert_allclose(scores[whole.exit[left], np.flatnonzero(left)], whole.score[left], rtol=1e-5)
