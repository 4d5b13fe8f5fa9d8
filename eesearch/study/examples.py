"""Samples of the test split to look at: which leave early, which late, and what they are answered."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import Value
from eesearch.training.data import Split

COUNT = 96
"""Samples that are kept."""

COLUMNS = 12
"""Thumbnails in a row of the picture."""

LARGEST = 48
"""Pixels of a thumbnail's longer side, at most."""

MOST_WORDS = 400
"""Characters of a text."""

Replayed = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Stop and answer of every sample of test. [N], [N]"""


class Examples(Value):
    """Samples of the test split, from easy to hard: by how late the points of the fronts let them leave, on average.

    Attributes:
        made_for: Key of the fronts whose points these are; others have other points.
        index: Rows of the test split. [n]
        label: Their classes. [n]
        sprite: Of images: one PNG in base64, thumbnails in rows of `COLUMNS`; "" for anything else.
        side: Height and width of a thumbnail.
        texts: Of anything but images: what there is to read. [n]
        stops: By device, for each point: the stop where each example leaves. [P][n]
        answers: The same: what it is answered; -1 where it is handed on.
    """

    made_for: str
    kind: Literal["image", "text", "numbers"]
    index: tuple[int, ...]
    label: tuple[int, ...]
    sprite: str = ""
    side: tuple[int, int] = (0, 0)
    texts: tuple[str, ...] = ()
    stops: dict[str, tuple[tuple[int, ...], ...]]
    answers: dict[str, tuple[tuple[int, ...], ...]]


def make_examples(
    split: Split, replayed: Mapping[str, Sequence[Replayed]], lateness: NDArray[np.float64], made_for: str
) -> Examples:
    """Choose examples evenly over all degrees of difficulty.

    Args:
        split: The test split.
        replayed: By device, for each point of its front.
        lateness: How late each sample leaves, on average. [N]
        made_for: As in `Examples`.
    """
    order = np.argsort(lateness, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, COUNT).round().astype(int))]
    x = _side_by_side(split.x)
    fields = _pictures(x, chosen) if _is_image(x) else _words(split, chosen)
    return Examples(
        made_for=made_for,
        index=tuple(chosen.tolist()),
        label=tuple(split.y[chosen].tolist()),
        stops={name: tuple(tuple(stop[chosen].tolist()) for stop, _ in points) for name, points in replayed.items()},
        answers={name: tuple(tuple(said[chosen].tolist()) for _, said in points) for name, points in replayed.items()},
        **fields,
    )


def _side_by_side(x: NDArray[Any]) -> NDArray[Any]:
    """Views [N, V, C, H, W] as one image [N, C, H, V W]; other samples as they are."""
    if x.ndim != 5:
        return x
    samples, views, channels, height, width = x.shape
    return x.transpose(0, 2, 3, 1, 4).reshape(samples, channels, height, views * width)


def _is_image(x: NDArray[Any]) -> bool:
    """Whether samples [N, ...] are grey [H, W] or [1, H, W], or coloured [3, H, W]."""
    shape = x.shape[1:]
    return (len(shape) == 2 and x.dtype == np.uint8) or (len(shape) == 3 and shape[0] in (1, 3))


def _pictures(x: NDArray[Any], chosen: NDArray[np.intp]) -> dict[str, Any]:
    from PIL import Image

    low, high = float(x.min()), float(x.max())
    grey = (x[chosen].astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    images = grey.round().astype(np.uint8).reshape(len(chosen), -1, *x.shape[-2:])  # [n, 1 or 3, H, W]
    height, width = x.shape[-2:]
    scale = min(1.0, LARGEST / max(height, width))
    side = max(1, round(height * scale)), max(1, round(width * scale))
    sheet = Image.new("RGB", (side[1] * COLUMNS, side[0] * -(-len(images) // COLUMNS)))
    for number, image in enumerate(images):
        pixels = np.broadcast_to(image, (3, height, width)).transpose(1, 2, 0)
        thumbnail = Image.fromarray(np.ascontiguousarray(pixels)).resize(side[::-1], Image.Resampling.BOX)
        sheet.paste(thumbnail, (number % COLUMNS * side[1], number // COLUMNS * side[0]))
    png = BytesIO()
    (sheet.convert("L") if images.shape[1] == 1 else sheet).save(png, format="PNG", optimize=True)
    return {"kind": "image", "sprite": b64encode(png.getvalue()).decode(), "side": side}


def _words(split: Split, chosen: NDArray[np.intp]) -> dict[str, Any]:
    if split.text is not None:
        return {"kind": "text", "texts": tuple(_shortened(split.text[i]) for i in chosen)}
    rows = split.x[chosen].reshape(len(chosen), -1)
    return {"kind": "numbers", "texts": tuple(_shortened(", ".join(f"{v:.4g}" for v in row)) for row in rows)}


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_WORDS else f"{text[: MOST_WORDS - 3]}..."
