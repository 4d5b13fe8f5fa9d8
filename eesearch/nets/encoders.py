"""The encoder classifiers of `transformers`, for text and for images.

A sample of text is the numbers of its tokens, int64 [T], padded at the end with the tokenizer's padding. Which tokens
are there travels along with the hidden state [N, T, D], whose padded tokens are set to 0 behind every block: nobody
attends to them, and so heads can tell them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from eesearch.core.registry import ADAPTERS
from eesearch.nets.adapters import Adapter, Forward, place


def _text(network: Any, ids: Tensor) -> Tensor:
    logits: Tensor = type(network).forward(network, ids, attention_mask=_there(network, ids).long()).logits
    return logits


def _there(network: Any, ids: Tensor) -> Tensor:
    return ids != network.config.pad_token_id


def _encoded(network: Any, ids: Tensor) -> Tensor:
    """Hidden states [N, T, D] behind the last block; padded tokens are 0."""
    encoder = network.base_model
    blocks = encoder.encoder.layer if hasattr(encoder, "encoder") else encoder.transformer.layer
    names = {module: name for name, module in network.named_modules()}
    there = _there(network, ids)
    mask = (~there).to(torch.float32)[:, None, None, :] * torch.finfo(torch.float32).min
    hidden = encoder.embeddings(ids)
    if hasattr(encoder, "embeddings_project"):
        hidden = encoder.embeddings_project(hidden)
    for block in blocks:
        hidden = block(hidden, mask) * there[:, :, None]
        place(hidden, names[block])
    return hidden


def _bert(network: Any, ids: Tensor) -> Tensor:
    logits: Tensor = network.classifier(network.dropout(network.bert.pooler(_encoded(network, ids))))
    return logits


def _roberta(network: Any, ids: Tensor) -> Tensor:
    logits: Tensor = network.classifier(_encoded(network, ids))
    return logits


def _distilbert(network: Any, ids: Tensor) -> Tensor:
    first = relu(network.pre_classifier(_encoded(network, ids)[:, 0]))
    logits: Tensor = network.classifier(network.dropout(first))
    return logits


def _image(network: Any, x: Tensor) -> Tensor:
    logits: Tensor = type(network).forward(network, x).logits
    return logits


def _patches(network: Any, x: Tensor) -> Tensor:
    """Normalised hidden states [N, T, D] behind the last block."""
    encoder = network.base_model
    hidden = encoder.embeddings(x)
    for block in encoder.layers:
        hidden = block(hidden)
    normal: Tensor = encoder.layernorm(hidden)
    return normal


def _vit(network: Any, x: Tensor) -> Tensor:
    logits: Tensor = network.classifier(_patches(network, x)[:, 0])
    return logits


def _deit_with_teacher(network: Any, x: Tensor) -> Tensor:
    hidden = _patches(network, x)
    logits: Tensor = (network.cls_classifier(hidden[:, 0]) + network.distillation_classifier(hidden[:, 1])) / 2
    return logits


_TEXT: dict[str, Forward] = {
    "BertForSequenceClassification": _bert,
    "RobertaForSequenceClassification": _roberta,
    "ElectraForSequenceClassification": _roberta,
    "DistilBertForSequenceClassification": _distilbert,
}
_IMAGES: dict[str, Forward] = {
    "ViTForImageClassification": _vit,
    "DeiTForImageClassification": _vit,
    "DeiTForImageClassificationWithTeacher": _deit_with_teacher,
}
for _name, _traced in _TEXT.items():
    ADAPTERS.register(_name)(Adapter(_text, _traced, reads_tokens=True))
for _name, _traced in _IMAGES.items():
    ADAPTERS.register(_name)(Adapter(_image, _traced))
