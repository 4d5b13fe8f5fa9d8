"""What trainings of a search will take, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eesearch.core.design import Design, ExitSpec, HeadSpec
from eesearch.core.registry import STRATEGIES
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import Backbone
from eesearch.study.question import Study
from eesearch.training.bank import build_heads
from eesearch.training.plans import Work, count_work


def expected_work(
    study: Study, backbone: Backbone, heads: Mapping[str, Sequence[HeadSpec]], samples: int
) -> dict[str, Work]:
    """What a design with an exit at every cut takes, by the strategy that trains it.

    Args:
        study: Names strategies, and how long they train.
        backbone: Cut where the space allows.
        heads: That fit each cut.
        samples: In the training split.
    """
    exits = tuple(ExitSpec(cut=cut, head=designs[0]) for cut, designs in heads.items())
    net = ExitNet(backbone, build_heads(backbone, exits, study.seed))
    training, scratch = study.training, study.training.start == "scratch"
    loss = study.space.loss.spec({}).model_copy(update={"costs": (1.0,) * len(net.exits)})
    found = {}
    for strategy in study.space.trained:
        alone = scratch and "before" not in STRATEGIES[strategy].uses
        design = Design(
            backbone="",
            data="",
            strategy=strategy,
            exits=exits,
            train=training.backbone if alone else training.joint,
            loss=loss,
            before=training.backbone if scratch else None,
        )
        found[strategy] = count_work(net, design, samples)
    return found
