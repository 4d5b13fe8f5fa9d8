"""Points on tiers, exported: all stages in one place, coding where a link codes, with the same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from eesearch.core.design import NOTHING, ExitId
from eesearch.core.policy import Scoring, Stop
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.cards import card
from eesearch.exporters.formats import near_threshold
from eesearch.exporters.learning import Learning
from eesearch.exporters.onnx_stages import NEVER, THRESHOLDS, write_thresholds
from eesearch.study.config import stop_alphas
from tests.unit.exporters.conftest import between

LIBRARIES = {"torch": "torch", "onnx": "onnxruntime", "hf": "transformers"}


@pytest.fixture
def on_tiers(make_chosen, small_net):
    """An exit on the phone, nothing at the next cut, and behind a link that codes the own classifier in the cloud."""
    net, x = small_net
    chosen = make_chosen()
    early, (silent, *_) = net.exits[0], [c.name for c in net.backbone.cuts[1:]]
    exits = (
        early.model_copy(update={"tier": "phone"}),
        ExitId(network=net.network, cut=silent, head=NOTHING, tier="phone"),
        net.exits[-1].model_copy(update={"tier": "cloud", "link": f"8bit@{silent}"}),
    )
    policy = chosen.config.policy
    thresholds = (between(chosen.scores(x)[0], 1 / 2), inf, -inf)
    stops = tuple(Stop(exit=e, threshold=t) for e, t in zip(exits, thresholds, strict=True))
    policy = policy.model_copy(update={"stops": stops})
    fits = {"temperature": ((1.0,),) * 3}
    config = chosen.config.model_copy(update={"policy": policy, "fits": fits, "stops": chosen.config.stops})
    return replace(chosen, config=config, stages=net.stages(policy), scoring=Scoring(), losses=stop_alphas(config))


@pytest.mark.parametrize("to", LIBRARIES)
def test_formats_answer_as_the_network(on_tiers, small_net, tmp_path, to):
    pytest.importorskip(LIBRARIES[to])
    chosen, (net, x) = on_tiers, small_net
    exporter = EXPORTERS[to]
    exporter.write(chosen, tmp_path)
    answer, stop = exporter.reload(tmp_path)(x)
    own = net.predict(x, chosen.config.policy)
    safe = ~near_threshold(chosen, chosen.scores(x))
    assert set(own.exit) == {0, 2}
    np.testing.assert_array_equal(answer[safe], own.answer[safe])
    np.testing.assert_array_equal(stop[safe], own.exit[safe])


def test_thresholds_are_json_for_everybody(on_tiers, tmp_path):
    write_thresholds(on_tiers, tmp_path)

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    facts = json.loads((tmp_path / THRESHOLDS).read_text(), parse_constant=refuse)
    assert facts["thresholds"] == [on_tiers.thresholds[0], NEVER, None]


def test_a_card_tells_which_stop_lies_on_which_tier(on_tiers):
    text = card("lightning.md.jinja", on_tiers, learning=Learning.of(on_tiers))
    assert on_tiers.tiers == ("phone", "cloud")
    assert all(f"`{name}`" in text for name in on_tiers.exits)
    assert on_tiers.exits[1].endswith(":none@phone")
    assert "@cloud (8bit@" in on_tiers.exits[2]
    assert "its stops lie on the tiers phone, cloud" in text


def test_who_says_nothing_learns_nothing(on_tiers):
    assert on_tiers.losses[1] == 0.0
