"""Runs the stages of a network with early exits by ExecuTorch, and really stops; needs executorch and torch only.

    runner = Runner("folder")                  # where stage_0.pte, stage_1.pte, ..., thresholds.json lie
    answer, exit, score = runner.predict(x)    # raw samples [N, ...], one after the other

thresholds.json may be edited: a sample leaves at the first stop where its score is at least the threshold; null: all,
1e308: none.
"""

import json
from pathlib import Path

import torch
from executorch.runtime import Runtime


class Runner:
    """All stages, loaded once, each for one sample; `thresholds` may be changed."""

    def __init__(self, folder="."):
        facts = json.loads((Path(folder) / "thresholds.json").read_text(encoding="utf-8"))
        self.thresholds, self.exits = facts["thresholds"], facts["exits"]
        self.inputs, self.outputs = facts["inputs"], facts["outputs"]
        files = [Path(folder) / f"stage_{number}.pte" for number in range(len(self.thresholds))]
        self.programs = [Runtime.get().load_program(file) for file in files]
        self.stages = [program.load_method("forward") for program in self.programs]

    def predict(self, x):
        """Class of each sample (-1: handed on), the stop where it left, its score there. Each [N]"""
        said = [self.predict_one(x[n : n + 1]) for n in range(len(x))]
        kinds = (torch.int64, torch.int64, torch.float32)
        return tuple(torch.tensor([one[i] for one in said], dtype=kind) for i, kind in enumerate(kinds))

    def predict_one(self, x):
        """The same of one sample [1, ...], as plain numbers."""
        held = {"x": x}
        for number, (stage, threshold) in enumerate(zip(self.stages, self.thresholds, strict=True)):
            made = stage.execute([held[name].contiguous() for name in self.inputs[number]])
            held.update({name: made[i].clone() for i, name in enumerate(self.outputs[number])})
            score = held["score"].item()
            if threshold is None or score >= threshold:
                return held["answer"].item(), number, score
        return -1, len(self.stages), float("nan")
