"""Every family of networks in `docs/models.md`: its chain is the model, costs add up, heads learn, stopping is real."""

from pathlib import Path

import pytest

from eesearch.nets.adapters import adapter_of
from eesearch.testing.families import MEMBERS, line
from eesearch.testing.models import ModelContract

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.source)
def test_a_family(member):
    """One test for each network: to split it takes longest."""
    library = LIBRARIES.get(member.source.partition(":")[0])
    if library is not None:
        pytest.importorskip(library)

    class Kit(ModelContract):
        def build(self):
            return member.build()

    kit = Kit()
    kit.test_the_chain_is_the_model()
    kit.test_multiply_adds_of_the_segments_are_those_of_the_model()
    kit.test_heads_learn_and_conditional_execution_equals_the_table()
    model, _, backbone = kit._built
    assert line(member, backbone, by_adapter=adapter_of(model) is not None) in PAGE.read_text().splitlines()


def test_the_page_has_no_other_lines():
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "`" in line]
    assert len(table) == len(MEMBERS) >= 40
