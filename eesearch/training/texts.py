"""Texts as token ids, by a tokenizer that lies in a folder or in the cache of Hugging Face."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from eesearch.core.errors import DataError
from eesearch.core.hub import ALLOW, hub_as_allowed, may_download
from eesearch.nets.vision import need_vision
from eesearch.training.checks import is_text

log = logging.getLogger(__name__)

AT_ONCE = 4096
"""Texts that are handed to a tokenizer together."""


class Tokenizing(NamedTuple):
    """How texts become token ids.

    Attributes:
        tokenizer: A folder that `save_pretrained` wrote, or a name in the hub.
        max_tokens: The rest of a longer text is cut off.
    """

    tokenizer: str
    max_tokens: int = 128


def tokenized(arrays: Mapping[str, Any], tokenizing: Tokenizing | None) -> dict[str, Any]:
    """The arrays with token ids [N, T] in place of texts [N], and the texts of test as what a person reads.

    Ids are padded at the right to the longest text of all splits, but to no more than `max_tokens`.

    Args:
        arrays: Samples are `x_train`, `x_test` and maybe `x_cal`.
        tokenizing: None: none of them may be texts.

    Raises:
        DataError: texts without a tokenizer, a tokenizer without texts; no such tokenizer, or one without a token that
            pads.
    """
    samples = {key: _as_texts(value) for key, value in arrays.items() if key in ("x_train", "x_test", "x_cal")}
    texts = [key for key, value in samples.items() if is_text(value)]
    if tokenizing is None:
        if texts:
            raise _no_tokenizer(texts[0])
        return dict(arrays)
    if len(texts) < len(samples):
        other = next(key for key in samples if key not in texts)
        got = f"{np.asarray(samples[other]).dtype} {np.asarray(samples[other]).shape}"
        do = "Leave `tokenizer` out, or give the texts themselves."
        raise DataError(f"{other} holds no texts for the tokenizer", got=got, expected="strings [N]", do=do)
    return {"text_test": samples.get("x_test"), **arrays, **_padded({key: samples[key] for key in texts}, tokenizing)}


def token_ids(key: str, given: Any, tokenizing: Tokenizing | None, length: int) -> NDArray[np.int64] | None:
    """Token ids of further texts, each cut off or padded to one length. [N, T]

    Args:
        key: Their name, for the message.
        given: Texts [N]; of anything else the answer is None.
        tokenizing: As it was for the texts of the study.
        length: Of these.

    Raises:
        DataError: texts without a tokenizer; no such tokenizer, or one without a token that pads.
    """
    texts = _as_texts(given)
    if not is_text(texts):
        return None
    if tokenizing is None:
        raise _no_tokenizer(key)
    ids = _padded({key: texts}, tokenizing._replace(max_tokens=length), least=length)
    return ids[key]


def _no_tokenizer(key: str) -> DataError:
    return DataError(
        f"{key} holds texts",
        expected="token ids, or a tokenizer",
        do="Name one under `data`: tokenizer: FOLDER, as `save_pretrained` writes it.",
    )


def _as_texts(given: Any) -> Any:
    """A list or an array of Python strings as an array of strings; anything else as it is."""
    objects = isinstance(given, np.ndarray) and given.dtype.kind == "O" and given.ndim == 1
    if (objects or isinstance(given, list)) and len(given) and all(isinstance(value, str) for value in given):
        return np.array(list(given), np.dtypes.StringDType())
    return given


def _padded(texts: Mapping[str, NDArray[Any]], tokenizing: Tokenizing, least: int = 1) -> dict[str, NDArray[np.int64]]:
    tokenizer = load_tokenizer(tokenizing.tokenizer)
    pad = tokenizer.pad_token_id
    if pad is None:
        raise DataError(
            f"the tokenizer {tokenizing.tokenizer} has no token that pads",
            expected="a pad token, since samples are of one length",
            do="Set one and save it: tokenizer.pad_token = tokenizer.eos_token; tokenizer.save_pretrained(FOLDER).",
        )
    ids: dict[str, list[NDArray[np.int64]]] = {key: [] for key in texts}
    for key, each in texts.items():
        for start in range(0, len(each), AT_ONCE):
            part = [str(text) for text in each[start : start + AT_ONCE]]
            found = tokenizer(part, truncation=True, max_length=tokenizing.max_tokens, padding=False)["input_ids"]
            ids[key] += [np.array(one, np.int64) for one in found]
    for key, rows in ids.items():
        empty = [row for row, one in enumerate(rows) if not len(one)]
        if empty:
            raise DataError(
                f"{len(empty)} texts of {key} have no token",
                got=f"{str(texts[key][empty[0]])!r}, number {empty[0]}",
                expected="at least one token in each",
                do="Drop them, or take a tokenizer that marks where a text begins.",
            )
    limit = tokenizing.max_tokens
    full = sum(len(one) == limit for rows in ids.values() for one in rows)
    if full and least == 1:
        log.info("%d texts have data.max_tokens (%d) tokens: longer ones were cut off there", full, limit)
    longest = max((len(one) for each in ids.values() for one in each), default=0)
    padded = {key: np.full((len(each), max(longest, least)), pad, np.int64) for key, each in ids.items()}  # [N, T]
    for key, rows in ids.items():
        for row, one in enumerate(rows):
            padded[key][row, : len(one)] = one
    return padded


def load_tokenizer(name: str) -> Any:
    """A tokenizer of a folder, or of a name in the hub's cache.

    Raises:
        DataError: transformers is not installed, or there is no such tokenizer.
    """
    auto = need_vision("transformers", "hf", DataError).AutoTokenizer
    folder = Path(name).expanduser()
    place = str(folder) if folder.is_dir() else name
    try:
        with hub_as_allowed():
            return auto.from_pretrained(place, local_files_only=not may_download(), trust_remote_code=False)
    except Exception as error:  # a folder of something else makes it fail in a dozen ways
        raise DataError(
            f"cannot load the tokenizer {name}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'nothing'}",
            expected="a folder that save_pretrained wrote, or a name that is in the local cache",
            do=f"Save it: AutoTokenizer.from_pretrained('{name}').save_pretrained(FOLDER). {ALLOW}",
        ) from error


def check_padding(model: nn.Module, tokenizer: str) -> None:
    """Refuse a tokenizer that pads with another token than the one which a network of transformers leaves out.

    Raises:
        DataError: so.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "pad_token_id"):
        return
    pad = load_tokenizer(tokenizer).pad_token_id
    if config.pad_token_id != pad:
        raise DataError(
            f"the tokenizer {tokenizer} does not match the model",
            got=f"padding by token {pad}",
            expected=f"pad_token_id {config.pad_token_id}, as the configuration of the model says",
            do="Name the tokenizer that the model was trained with under data.tokenizer, or set its pad_token_id.",
        )


def check_vocabulary(model: nn.Module, ids: NDArray[Any], tokenizer: str) -> None:
    """Refuse token ids for which a model has no embedding.

    Args:
        model: Its embedding of tokens is what `get_input_embeddings` gives, else its largest one; a model without any
            passes.
        ids: Of its samples.
        tokenizer: That made them, for the message.

    Raises:
        DataError: so.
    """
    try:
        named = [model.get_input_embeddings()]  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        named = list(model.modules())
    sizes = [module.num_embeddings for module in named if isinstance(module, nn.Embedding)]
    largest = int(ids.max()) if ids.size else 0
    if sizes and largest >= max(sizes):
        raise DataError(
            f"the tokenizer {tokenizer} does not match the model",
            got=f"a token of id {largest}",
            expected=f"ids below {max(sizes)}, the number of embeddings of the model",
            do="Name the tokenizer that the model was trained with under data.tokenizer.",
        )
