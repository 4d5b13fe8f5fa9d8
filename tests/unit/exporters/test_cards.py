import re
from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from eesearch.exporters.cards import card
from eesearch.exporters.learning import Learning

NAMES = {"lightning.md.jinja": {}, "hf.md.jinja": {"task": "", "given": "inputs"}, "hydra.md.jinja": {"name": "tiny"}}


@pytest.mark.parametrize("template", NAMES)
def test_a_card_tells_every_stop_with_its_threshold(make_chosen, template):
    chosen = make_chosen(asks=True)
    text = card(template, chosen, learning=Learning.of(chosen), **NAMES[template])
    rows = [line for line in text.splitlines() if re.match(r"\| \d: `", line)]
    assert len(rows) == 4
    assert all(name in row for name, row in zip(chosen.exits, rows, strict=True))
    assert all(str(threshold) in row for threshold, row in zip(chosen.thresholds, rows, strict=False))
    assert "handed on" in text


@pytest.mark.parametrize("template", NAMES)
def test_a_card_of_an_old_run_tells_what_is_known(make_chosen, template):
    chosen = make_chosen("separate")
    old = replace(chosen, config=chosen.config.model_copy(update={"stops": (), "pruned": ("a:linear-avg1",)}))
    text = card(template, old, learning=Learning.of(old), **NAMES[template])
    assert "a:linear-avg1" in text
    assert "| - | - |" in text
    assert "there is no `costs.json`" in text
    assert "Only the heads learn" in text


def test_a_gap_is_an_error(make_chosen):
    with pytest.raises(UndefinedError):
        card("hf.md.jinja", make_chosen())
