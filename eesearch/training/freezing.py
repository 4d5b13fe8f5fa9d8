"""FreezeOut: the earlier a part, the sooner it has learnt enough (eq. 10; Brock et al. 2017)."""

from __future__ import annotations

from math import cos, pi

START_AND_POWER = {"linear": (0.5, 1), "cubic": (0.8, 3)}
"""t0 and p of `freeze_share`, as the authors chose them."""


def freeze_share(number: int, parts: int, *, start: float, power: int) -> float:
    """t_i / T = (t0 + (1 - t0) i / (L - 1))^p: the share of the steps after which a part is frozen.

    "Equispaced in [0, T]", as the survey has it, would freeze the first part at once.

    Args:
        number: i, of the part, from 0.
        parts: L.
        start: t0.
        power: p.
    """
    return float((start + (1.0 - start) * number / max(parts - 1, 1)) ** power) if number < parts - 1 else 1.0


def freezing_rate(step: int, frozen_at: float) -> float:
    """Factor of the learning rate, 0.5 (1 + cos(pi t / t_i)), and 0 from t_i on (eq. 10).

    Args:
        step: t
        frozen_at: t_i, in steps.
    """
    return 0.5 * (1.0 + cos(pi * step / frozen_at)) if step < frozen_at else 0.0
