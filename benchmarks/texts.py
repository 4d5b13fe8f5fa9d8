"""Texts and their tokenizer for the study sst2_transformer: an .npz file of sentences, and a WordPiece of 6,000 tokens.

    python benchmarks/texts.py text_small.json.gz OUT [--name sst2|trec6]

The file holds `{name: {labels: [...], splits: {split: {text: [...], label: [...]}}}}`. Written are OUT/NAME.npz, in
which train and dev together are train, and the folder OUT/NAME-tokenizer, made of these training texts alone.

SST-2 (Socher et al. 2013) is the one that is measured: its sentences test with 1,821 samples, and a fifth of 7,792
calibrates. TREC's test has 500, on which no difference below a point can be told.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
"""The first is number 0, which `eesearch.nets.series:text_encoder` takes for padding."""

VOCABULARY = 6000


def wordpiece(texts: Sequence[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT has it, of lower case, learnt from texts.

    Args:
        texts: Of the training split.
        vocabulary: Most tokens.
    """
    made = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL.values()))
    made.train_from_iterator(texts, trainer)
    ends = [(SPECIAL[name], made.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)


def main() -> None:
    """Read the options, write both."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("source", type=Path, help="text_small.json.gz")
    options.add_argument("out", type=Path)
    options.add_argument("--name", choices=("sst2", "trec6"), default="sst2")
    chosen = options.parse_args()
    with gzip.open(chosen.source, "rt", encoding="utf-8") as file:
        known = json.load(file)[chosen.name]
    splits = {name: known["splits"].get(name, {"text": [], "label": []}) for name in ("train", "dev", "test")}
    texts, labels = (splits["train"][key] + splits["dev"][key] for key in ("text", "label"))
    chosen.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        chosen.out / f"{chosen.name}.npz",
        x_train=np.array(texts),
        y_train=np.array(labels),
        x_test=np.array(splits["test"]["text"]),
        y_test=np.array(splits["test"]["label"]),
        class_names=np.array(known["labels"]),
    )
    tokenizer = wordpiece(texts)
    tokenizer.save_pretrained(chosen.out / f"{chosen.name}-tokenizer")
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    print(
        f"{len(texts):,} training texts, {len(tokenizer):,} tokens; longest {max(lengths)}, mean {np.mean(lengths):.1f}"
    )


if __name__ == "__main__":
    main()
