"""Small networks for series, for studies: of sound, of steps, of tokens; import paths such as `...series:recurrent`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from eesearch.core.errors import ModelError
from eesearch.nets.recurrent import RecurrentClassifier
from eesearch.nets.vision import need_vision


def audio_cnn(*, channels: Sequence[int] = (16, 32, 64, 64), in_channels: int = 1, classes: int = 10) -> nn.Module:
    """Convolutions over time, each with batch norm, ReLU and pooling by 2, the mean over time, linear.

    Args:
        channels: Of each convolution.
        in_channels: Of a sample [channels, T].
        classes: Number of classes.
    """
    layers: list[nn.Module] = []
    for before, after in zip((in_channels, *channels), channels, strict=False):
        block = [nn.Conv1d(before, after, 7, padding=3, bias=False), nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(2)]
        layers.append(nn.Sequential(*block))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels[-1], classes))


def recurrent(
    *,
    kind: Literal["lstm", "gru", "rnn"] = "lstm",
    features: int,
    steps: int,
    width: int = 64,
    depth: int = 1,
    parts: int = 8,
    classes: int = 10,
) -> nn.Module:
    """A recurrent classifier; exits hang between `parts` runs of its time steps.

    Args:
        kind: Of its cells.
        features: Of a step; a sample is [steps, features].
        steps: Of a sample.
        width: Of the hidden state.
        depth: Layers.
        parts: Into how many runs of steps a sample is cut.
        classes: Number of classes.

    Raises:
        ModelError: there are no such cells, or fewer steps than parts.
    """
    cells: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    if kind not in cells:
        raise ModelError(f"there are no cells '{kind}'", expected=f"one of {', '.join(cells)}")
    rnn = cells[kind](features, width, num_layers=depth, batch_first=True)
    return RecurrentClassifier(rnn, nn.Linear(width, classes), steps=steps, parts=parts)


def text_encoder(
    *, vocabulary: int, tokens: int = 64, width: int = 128, depth: int = 4, heads: int = 4, classes: int = 2
) -> nn.Module:
    """A BERT of transformers with random weights; token 0 is padding.

    Args:
        vocabulary: How many tokens there are.
        tokens: Most of a sample.
        width: Features of a token; a multiple of `heads`.
        depth: Blocks.
        heads: Of attention, in a block.
        classes: Number of classes.

    Raises:
        ModelError: transformers is not installed.
    """
    transformers = need_vision("transformers", "hf", ModelError)
    config = transformers.BertConfig(
        vocab_size=vocabulary, max_position_embeddings=tokens, hidden_size=width, num_hidden_layers=depth,
        num_attention_heads=heads, intermediate_size=4 * width, num_labels=classes, pad_token_id=0,
    )  # fmt: skip
    model: nn.Module = transformers.BertForSequenceClassification(config)
    return model
