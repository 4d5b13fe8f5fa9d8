"""What to think of the figures of a run: whether its network has learnt anything, and how classes weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEARNT = 0.01
"""Share of calibration by which a network is better than whoever always answers the same class, if it has learnt."""

LISTED = 12
"""Classes whose weights are told."""


def cautions(data: Mapping[str, Any], class_names: Sequence[str], accuracy: float) -> list[str]:
    """Sentences, if there is anything to say.

    Args:
        data: As `Dataset.record` tells it.
        class_names: [C]
        accuracy: Of the unmodified network on calibration.
    """
    told, chance = list[str](), data.get("most_frequent", {}).get("cal", 0.0)
    if accuracy <= chance + LEARNT:
        told.append(
            f"The network is right about {accuracy:.1%} of calibration, and who always answers the same class about "
            f"{chance:.1%}: it has learnt nothing. Train it longer, or check weights and the input section."
        )
    weights = data.get("class_weights", {})
    words = {split: _weighed(class_names, weights[split]) for split in ("cal", "test") if split in weights}
    if len(set(words.values())) == 1:
        told.append(f"Accuracies are weighted by class: {words['test']}.")
    else:
        names = {"cal": "calibration", "test": "test"}
        told += [f"Accuracies on {names[split]} are weighted by class: {each}." for split, each in words.items()]
    return told


def _weighed(class_names: Sequence[str], weights: Sequence[int]) -> str:
    """What each class counts, from those that count most."""
    least = min(weights)
    more = sorted(((w / least, name) for name, w in zip(class_names, weights, strict=True) if w > least), reverse=True)
    told = [f"{name} counts {weight:.4g}" for weight, name in more[:LISTED]]
    told += ["..."] if len(more) > LISTED else []
    return ", ".join([*told, "any other 1"])


def times(ratio: float) -> str:
    """`0.42 x`; of small ratios one digit that says something."""
    return f"{ratio:.2f} x" if ratio >= 0.095 else f"{ratio:.1g} x"
