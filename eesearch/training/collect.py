"""From a network with exits to its table: one pass over a split."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.errors import EesearchError
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import Coded, ExitNet
from eesearch.nets.inputs import as_tensor
from eesearch.nets.modes import evaluating
from eesearch.training.accelerator import device_of, full_precision
from eesearch.training.data import Split


def collect(
    net: ExitNet | CascadeNet | Coded, split: Split, *, batch_size: int = 256, progress: Progress = silent
) -> ExitTable:
    """What every exit says about every sample; the backbone runs once.

    Args:
        net: Stays as it is; runs in eval mode. Or several, or the exits of one behind a link that codes.
        split: Any.
        batch_size: Of the pass; the logits depend on it in the last bits only.
        progress: Called after each batch, in samples.

    Raises:
        EesearchError: an exit gives NaN or infinity.
    """
    total, device = len(split), device_of(net)
    joined: NDArray[np.float32] | None = None
    with evaluating(net), torch.inference_mode(), full_precision(device):
        for first in range(0, total, batch_size):
            last = min(first + batch_size, total)
            made = torch.stack(net(as_tensor(split.x[first:last]).to(device))).float().cpu().numpy()  # [E, B, C]
            joined = np.empty((len(made), total, made.shape[-1]), np.float32) if joined is None else joined
            joined[:, first:last] = made
            progress(f"collect {split.name}", last, total)
    assert joined is not None
    wrong = [f"{e.cut}:{e.head}" for e, logits in zip(net.exits, joined, strict=True) if not np.isfinite(logits).all()]
    if wrong:
        raise EesearchError(
            f"exits give logits that are not finite on the {split.name} split",
            got=", ".join(wrong),
            do="Lower the learning rate, or scale the input.",
        )
    return ExitTable(joined, split.y, net.exits, split.name, split.key, split.weights)
