"""Recurrent classifiers: a sample is a sequence, and exits hang between its time steps (section 5.1 of the survey)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from eesearch.core.errors import ModelError
from eesearch.core.registry import ADAPTERS
from eesearch.nets import encoders as encoders  # registers its adapters
from eesearch.nets.adapters import Adapter, place


class RecurrentClassifier(nn.Module):
    """A recurrent network, and a classifier that reads its last hidden state.

    Its segments are runs of time steps, all by the same weights; what is carried is the recurrent state, and the steps
    that are still to come.

    Args:
        rnn: An `nn.LSTM`, `nn.GRU` or `nn.RNN` in one direction, batch first.
        classifier: Hidden state [N, D] to logits [N, C].
        steps: Length T of a sample.
        embed: Before it, of each step alone: raw samples [N, T, ...] to [N, T, F]; none: they are [N, T, F].
        parts: Into how many runs of steps a sample is cut.

    Raises:
        ModelError: the recurrent network cannot be stopped between steps, or there are fewer steps than parts.
    """

    def __init__(
        self, rnn: nn.RNNBase, classifier: nn.Module, *, steps: int, embed: nn.Module | None = None, parts: int = 8
    ) -> None:
        super().__init__()
        if rnn.bidirectional or not rnn.batch_first:
            got = "two directions" if rnn.bidirectional else "batch_first=False"
            expected = "one direction, batch_first=True"
            raise ModelError("the recurrent network cannot be stopped between time steps", got=got, expected=expected)
        if not 1 < parts <= steps:
            raise ModelError("time steps cannot be divided so", got=f"{parts} parts", expected=f"from 2 to {steps}")
        self.embed = embed or nn.Identity()
        self.rnn = rnn
        self.classifier = classifier
        self.ends = tuple(steps * (part + 1) // parts for part in range(parts))

    def forward(self, x: Tensor) -> Tensor:
        """Raw samples [N, T, ...] to logits [N, C]."""
        if x.shape[1] != self.ends[-1]:
            raise ModelError("the samples have another length", got=f"{x.shape[1]} steps", expected=str(self.ends[-1]))
        hidden, _ = self.rnn(self.embed(x))
        logits: Tensor = self.classifier(hidden[:, -1])
        return logits


def _whole(network: RecurrentClassifier, x: Tensor) -> Tensor:
    logits: Tensor = type(network).forward(network, x)
    return logits


def _in_parts(network: RecurrentClassifier, x: Tensor) -> Tensor:
    """Part by part; states are carried batch first."""
    is_lstm = isinstance(network.rnn, nn.LSTM)
    given: tuple[Any, ...] = ()
    begin = 0
    for end in network.ends:
        part = x
        if end < network.ends[-1]:  # what is still to come goes on, and nothing else
            part, x = x[:, : end - begin], x[:, end - begin :]
        hidden, state = network.rnn(network.embed(part), *given)
        carried = [each.transpose(0, 1) for each in ((state[0], state[1]) if is_lstm else (state,))]
        last = hidden[:, -1]
        if end == network.ends[-1]:
            break
        place(last, f"step.{end}")
        states = [each.transpose(0, 1).contiguous() for each in carried]
        given = (tuple(states),) if is_lstm else (states[0],)
        begin = end
    logits: Tensor = network.classifier(last)
    return logits


def _between_parts(network: RecurrentClassifier) -> tuple[str, ...]:
    return tuple(f"step.{end}" for end in network.ends[:-1])


ADAPTERS.register("RecurrentClassifier")(Adapter(_whole, _in_parts, shared=("rnn", "embed"), cuts=_between_parts))
