"""Contract kits that extensions inherit: what every registered part must do. Only tests import this module.

A test class inherits the kit and says what it is for:

    class TestMyHead(HeadContract):
        spec = HeadSpec(kind="mine", pool="avg", size=2)
        cut_shape = (8, 6, 6)
        refused = ((HeadSpec(kind="mine"), (8,)),)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from eesearch.core.design import HeadSpec
from eesearch.core.errors import HeadError
from eesearch.nets.heads import Head, build_head, read_tap, tap_shape

_CLASSES = 3


class HeadContract:
    """What every head of the HEADS registry does.

    Attributes:
        spec: A design that uses the head.
        cut_shape: A cut that it fits: [C, H, W] or [D], without the batch.
        refused: (design, cut shape) that it must refuse, at least one.
    """

    spec: HeadSpec
    cut_shape: tuple[int, ...]
    refused: tuple[tuple[HeadSpec, tuple[int, ...]], ...]

    def test_returns_finite_logits(self) -> None:
        """[N, *cut_shape] gives [N, C], nothing infinite, for any C."""
        for classes in (2, _CLASSES):
            logits = _make(self.spec, self.cut_shape, classes)(_hidden(5, self.cut_shape))
            assert logits.shape == (5, classes)
            assert logits.isfinite().all()

    def test_body_reads_the_declared_tap(self) -> None:
        """The body on the pooled tap is the head on the hidden state: taps can be cached."""
        head, hidden = _make(self.spec, self.cut_shape).eval(), _hidden(5, self.cut_shape)
        tapped = read_tap(hidden, head.tap)
        assert tuple(tapped.shape[1:]) == tap_shape(self.cut_shape, head.tap)
        assert torch.equal(head.body(tapped), head(hidden))

    def test_gradients_reach_every_parameter(self) -> None:
        """Nothing in it is dead weight."""
        head = _make(self.spec, self.cut_shape).train()
        F.cross_entropy(head(_hidden(16, self.cut_shape)), torch.arange(16) % _CLASSES).backward()
        still = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]
        assert list(head.parameters())
        assert not still

    def test_is_deterministic_in_eval_mode(self) -> None:
        """The same hidden state gives the same logits, and leaves no trace in the head."""
        head, hidden = _make(self.spec, self.cut_shape).eval(), _hidden(5, self.cut_shape)
        first = head(hidden)
        head(_hidden(5, self.cut_shape, seed=1))
        assert torch.equal(first, head(hidden))

    def test_treats_each_sample_alone(self) -> None:
        """A batch of one is the batch's row: samples may leave a batch."""
        head, hidden = _make(self.spec, self.cut_shape).eval(), _hidden(5, self.cut_shape)
        rows = torch.cat([head(hidden[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(rows, head(hidden), rtol=1e-5, atol=1e-6)

    def test_learns_separable_data(self) -> None:
        """A few steps of Adam suffice for classes that lie apart."""
        head = _make(self.spec, self.cut_shape).train()
        centres = 2.0 * _hidden(_CLASSES, self.cut_shape, seed=2)
        labels = torch.arange(48) % _CLASSES
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        for step in range(60):
            hidden = centres[labels] + 0.3 * _hidden(48, self.cut_shape, seed=10 + step)
            optimizer.zero_grad()
            F.cross_entropy(head(hidden), labels).backward()
            optimizer.step()
        unseen = centres[labels] + 0.3 * _hidden(48, self.cut_shape, seed=3)
        assert (head.eval()(unseen).argmax(-1) == labels).float().mean() >= 0.95

    def test_refuses_what_it_cannot_read(self) -> None:
        """A tap that does not fit is a HeadError when the head is built, not a crash when it runs."""
        assert self.refused
        for spec, cut_shape in self.refused:
            try:
                build_head(spec, cut_shape, _CLASSES)
            except HeadError:
                continue
            raise AssertionError(f"{spec.name} was built for {cut_shape}")


def _make(spec: HeadSpec, cut_shape: tuple[int, ...], classes: int = _CLASSES) -> Head:
    with _seeded(0):
        return build_head(spec, cut_shape, classes)


def _hidden(samples: int, cut_shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    return torch.randn(samples, *cut_shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
