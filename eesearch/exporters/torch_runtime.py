"""What every exported `model.py` holds, word for word: early stopping, and reading weights; plain PyTorch only.

Its text below the imports is copied into `model.py`, so that the exported folder needs nothing of eesearch.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """What the network says about N samples.

    answer: class of each; -1 for those that are handed on to a last resort. int64 [N]
    exit:   number of the stop where each sample left, see EXITS. int64 [N]
    score:  how sure that stop was; NaN at a last resort. float32 [N]
    """

    answer: Tensor
    exit: Tensor
    score: Tensor


class StagedNetwork(nn.Module):
    """Stages that run one after the other; `predict` really stops: samples that left are not computed any further."""

    remembers = False  # whether a decision looks at the logits of earlier stops too
    own_answer = True  # whether a stop answers what its own logits say

    def __init__(self, stages, thresholds):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.thresholds = list(thresholds)  # a sample leaves at stop i if its score there is at least thresholds[i]

    def decide(self, number, logits):
        """How sure stop `number` is: logits [k, N, C] of the stops so far to (answer [N, C], score [N])."""
        raise NotImplementedError

    def share(self, names):
        """Let tensors be the same ones: name -> name of the first."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, first in names.items():
            owner, _, last = name.rpartition(".")
            setattr(self.get_submodule(owner), last, tensors[first])

    def forward(self, x):
        """Raw samples [N, ...] to the logits [N, C] of every stop: everything runs, for training."""
        carry, every = (x,), []
        for stage in self.stages:
            carry, logits = stage(*carry)
            every.append(logits)
        return every

    def predict(self, x):
        """Answer raw samples [N, ...] with early stopping, in eval mode; the mode is kept."""
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            with torch.inference_mode():
                return self._predict(torch.as_tensor(x, device=self._device()))
        finally:
            for module in training:
                module.training = True

    def _device(self):
        return next(tensor.device for tensor in (*self.parameters(), *self.buffers()))

    def _predict(self, x):
        if len(self.thresholds) != len(self.stages):
            raise ValueError(f"{len(self.stages)} thresholds are needed, one per stop; got {len(self.thresholds)}")
        answer = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
        stop = torch.full_like(answer, len(self.stages))
        score = torch.full((len(x),), torch.nan, device=x.device)
        rows = torch.arange(len(x), device=x.device)  # the samples that are still on their way
        carry: tuple[Tensor, ...] = (x,)
        seen: list[Tensor] = []  # logits of the stops that a decision looks at
        stages = zip(self.stages, self.thresholds, strict=True)
        for number, (stage, threshold) in enumerate(stages if len(x) else ()):
            carry, logits = stage(*carry)
            seen = [*seen, logits] if self.remembers else [logits]
            said, sure = self.decide(number, torch.stack(seen).float())
            chosen = (logits if self.own_answer else said).argmax(-1)
            leaves = sure.cpu().double() >= threshold  # thresholds lie between two scores of single precision
            if threshold == float("-inf"):
                leaves[:] = True  # also where the score is not a number
            leaves = leaves.to(x.device)
            gone = rows[leaves]
            answer[gone], stop[gone], score[gone] = chosen[leaves], number, sure[leaves].float()
            if len(gone) == len(rows):
                break
            if len(gone):
                stays = ~leaves
                rows, seen = rows[stays], [past[stays] for past in seen]
                carry = tuple(tensor[stays] for tensor in carry)
        return Prediction(answer, stop, score)


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_safetensors(path):
    """The tensors of a safetensors file, by name: 8 bytes with the length of a JSON header, the header, the data."""
    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        empty = torch.empty(0, dtype=dtype)
        flat = torch.frombuffer(bytearray(data[begin + first : begin + last]), dtype=dtype) if last > first else empty
        tensors[name] = flat.reshape(entry["shape"])
    return tensors
