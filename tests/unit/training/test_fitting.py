import pytest
import torch

from eesearch.core.design import Design, ExitSpec, HeadSpec, TrainSpec
from eesearch.nets.exitnet import ExitNet
from eesearch.training.bank import build_heads, train_bank
from eesearch.training.cache import CACHING, NO_CACHING
from eesearch.training.checkpoint import Checkpoint, weights_hash
from eesearch.training.fitting import fit_heads
from eesearch.training.taps import Tap, cache_taps

LINEAR = HeadSpec(kind="linear")
TREE = HeadSpec(kind="tree", depth=2, size=2)
SVM = HeadSpec(kind="svm", size=2)
LOGISTIC = HeadSpec(kind="logistic")
SPEC = TrainSpec(epochs=2, batch_size=16, lr=0.01)


class KilledError(Exception):
    """Stands for SIGKILL."""


def design(backbone, *heads):
    exits = tuple(ExitSpec(cut=cut.name, head=head) for cut in backbone.cuts for head in heads)
    return Design(backbone="b", data="d", strategy="separate", exits=exits, train=SPEC)


def untrained(backbone, *heads):
    return ExitNet(backbone, build_heads(backbone, design(backbone, *heads).exits, 0)).eval()


def test_fits_what_is_fitted_and_nothing_else(backbone, data):
    net, told = untrained(backbone, LINEAR, TREE, SVM), []
    before = weights_hash(backbone)
    fresh = [weights_hash(head) for head in net.heads]
    fit_heads(net, data, 0, progress=lambda *event: told.append(event))
    assert weights_hash(backbone) == before
    changed = [weights_hash(head) != old for head, old in zip(net.heads, fresh, strict=True)]
    assert changed == [name != "linear-avg1" for _, name in net.places]
    assert told == [("cache hidden states", 65, 65)] + [("fit heads", n, sum(changed)) for n in range(1, 5)]
    logits = net(torch.from_numpy(data.x))
    assert all((said.argmax(-1).numpy() == data.y).mean() > 0.6 for said, c in zip(logits, changed, strict=False) if c)


def test_a_head_is_the_same_whichever_others_there_are_and_whatever_was_cached(backbone, data):
    crowd = untrained(backbone, LINEAR, TREE, SVM)
    fit_heads(crowd, data, 0)
    alone, told = untrained(backbone, SVM), []
    fit_heads(alone, data, 0, caching=NO_CACHING, progress=lambda *event: told.append(event[0]))
    assert told == ["cache hidden states", "fit heads"] * 2
    known = untrained(backbone, SVM)
    taps = [Tap.of(cut, SVM.tap) for cut in backbone.cuts]
    fit_heads(known, data, 0, cache=cache_taps(backbone, taps, data))
    for net in (alone, known):
        for place in net.places:
            assert weights_hash(net.head(*place)) == weights_hash(crowd.head(*place))


def test_killed_and_resumed_is_uninterrupted(backbone, data, tmp_path):
    whole, net, again = (untrained(backbone, TREE, LOGISTIC) for _ in range(3))
    fit_heads(whole, data, 0)

    def killed(label, done, total):
        if (label, done) == ("fit heads", 2):
            raise KilledError

    checkpoint, told = Checkpoint(tmp_path / "run"), []
    with pytest.raises(KilledError):
        fit_heads(net, data, 0, checkpoint=checkpoint, progress=killed)
    fit_heads(again, data, 0, checkpoint=checkpoint, progress=lambda *event: told.append(event))
    assert [event for event in told if event[0] == "fit heads"] == [("fit heads", 3, 4), ("fit heads", 4, 4)]
    assert weights_hash(again) == weights_hash(whole)
    other = untrained(backbone, TREE, LOGISTIC)
    fit_heads(other, data, 1, checkpoint=checkpoint, progress=lambda *event: told.append(event))
    assert told[-4:] == [("fit heads", n, 4) for n in range(1, 5)], "another seed is another fit"


def test_a_bank_of_fitted_heads_trains_nothing(backbone, data):
    told = []
    net = train_bank(backbone, design(backbone, TREE), data, progress=lambda *event: told.append(event[0]))
    assert told == ["cache hidden states", "fit heads", "fit heads"]
    assert weights_hash(net.heads) != weights_hash(untrained(backbone, TREE).heads)


@pytest.mark.parametrize("caching", [CACHING, NO_CACHING])
def test_a_bank_fits_after_training(backbone, data, caching):
    mixed, told = design(backbone, LINEAR, TREE), []
    net = train_bank(backbone, mixed, data, caching=caching, progress=lambda label, *_: told.append(label))
    assert told[-1] == "fit heads"
    alone = train_bank(backbone, design(backbone, TREE), data)
    for place in alone.places:
        assert weights_hash(net.head(*place)) == weights_hash(alone.head(*place))
    plain = train_bank(backbone, design(backbone, LINEAR), data, caching=caching)
    for place in plain.places:
        assert weights_hash(net.head(*place)) == weights_hash(plain.head(*place))
