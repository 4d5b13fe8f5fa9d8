"""What every head does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eesearch.core.design import HeadSpec
from eesearch.core.errors import HeadError
from eesearch.nets.fitted import FittedBody
from eesearch.nets.heads import Head, build_head, read_tap, tap_shape
from eesearch.testing.seeds import CLASSES, seeded
from eesearch.training.checkpoint import weights_hash


class HeadContract:
    """What every head of the HEADS registry does; `none`, which says nothing, does not learn.

    Attributes:
        spec: A design that uses the head.
        cut_shape: A cut that it fits, without the batch: [C, H, W], [T, D], [D], or [V, C, H, W] of several views.
        refused: (design, cut shape) that it must refuse, at least one.
    """

    spec: HeadSpec
    cut_shape: tuple[int, ...]
    refused: tuple[tuple[HeadSpec, tuple[int, ...]], ...]

    def test_returns_finite_logits(self) -> None:
        """[N, *cut_shape] gives [N, C], nothing infinite, for any C."""
        for classes in (2, CLASSES):
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
        self._loss(head(_hidden(16, self.cut_shape)), torch.arange(16) % CLASSES).backward()
        still = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]
        assert list(head.parameters())
        assert not still

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What a head learns from; a gate learns whether its head is right."""
        loss = F.cross_entropy(logits, labels)
        if self.spec.gate == "none":
            return loss
        right = (logits.argmax(-1) == labels).to(logits.dtype)
        return loss + F.binary_cross_entropy_with_logits(logits.mean(-1), right)

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
        centres = 2.0 * _hidden(CLASSES, self.cut_shape, seed=2)
        labels = torch.arange(48) % CLASSES
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        for step in range(60):
            hidden = centres[labels] + 0.3 * _hidden(48, self.cut_shape, seed=10 + step)
            optimizer.zero_grad()
            self._loss(head(hidden), labels).backward()
            optimizer.step()
        unseen = centres[labels] + 0.3 * _hidden(48, self.cut_shape, seed=3)
        assert (head.eval()(unseen).argmax(-1) == labels).float().mean() >= 0.95

    def test_refuses_what_it_cannot_read(self) -> None:
        """A tap that does not fit is a HeadError when the head is built, not a crash when it runs."""
        assert self.refused
        for spec, cut_shape in self.refused:
            try:
                build_head(spec, cut_shape, CLASSES)
            except HeadError:
                continue
            raise AssertionError(f"{spec.name} was built for {cut_shape}")


class FittedHeadContract(HeadContract):
    """What a head does that is fitted instead of trained (`FittedBody`): gradients teach it nothing."""

    def test_gradients_reach_every_parameter(self) -> None:
        """There are none: what it learns are buffers, whose shapes are known before."""
        head, fitted = _make(self.spec, self.cut_shape), self._fitted(0)
        assert not list(head.parameters())
        assert not head(_hidden(5, self.cut_shape)).softmax(-1).std(-1).any(), "uniform before"
        head.load_state_dict(fitted.state_dict())
        assert torch.equal(head(_hidden(5, self.cut_shape)), fitted(_hidden(5, self.cut_shape)))

    def test_learns_separable_data(self) -> None:
        """In one go; the seed decides whatever is random."""
        head, again = self._fitted(0), self._fitted(0)
        hidden, labels = self._drawn(3)
        assert (head(hidden).argmax(-1) == labels).float().mean() >= 0.95
        assert weights_hash(head) == weights_hash(again)

    def _fitted(self, seed: int) -> Head:
        head = _make(self.spec, self.cut_shape).eval()
        assert isinstance(head.body, FittedBody)
        hidden, labels = self._drawn(1)
        head.body.fit(read_tap(hidden, head.tap), labels, seed)
        return head

    def _drawn(self, seed: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(120) % CLASSES
        centres = 2.0 * _hidden(CLASSES, self.cut_shape, seed=2)
        return centres[labels] + 0.3 * _hidden(120, self.cut_shape, seed=seed), labels


def _make(spec: HeadSpec, cut_shape: tuple[int, ...], classes: int = CLASSES) -> Head:
    with seeded(0):
        return build_head(spec, cut_shape, classes)


def _hidden(samples: int, cut_shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    return torch.randn(samples, *cut_shape, generator=torch.Generator().manual_seed(seed))
