"""From a network with exits to its table: one pass over a split."""

from __future__ import annotations

import numpy as np
import torch

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
    x, total, device = as_tensor(split.x), len(split), device_of(net)
    logits: list[np.ndarray] = []
    with evaluating(net), torch.inference_mode(), full_precision(device):
        for first in range(0, total, batch_size):
            last = min(first + batch_size, total)
            logits.append(torch.stack(net(x[first:last].to(device))).float().cpu().numpy())  # [E, B, C]
            progress(f"collect {split.name}", last, total)
    joined = np.concatenate(logits, axis=1)
    finite = np.isfinite(joined).all((1, 2))
    if not finite.all():
        wrong = ", ".join(f"{e.cut}:{e.head}" for e, fine in zip(net.exits, finite, strict=True) if not fine)
        raise EesearchError(
            f"exits give logits that are not finite on the {split.name} split",
            got=wrong,
            do="Lower the learning rate, or scale the input.",
        )
    return ExitTable(joined, split.y, net.exits, split.name, split.key)
