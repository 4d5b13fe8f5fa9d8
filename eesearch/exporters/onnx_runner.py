"""Runs the stages of a network with early exits by onnxruntime, and really stops; needs onnxruntime and numpy only.

    runner = Runner("folder")                  # where stage_0.onnx, stage_1.onnx, ..., thresholds.json lie
    answer, exit, score = runner.predict(x)    # raw samples [N, ...], N >= 1

network.onnx beside it is the same in one graph with If nodes, for one sample at a time (x of batch 1).

thresholds.json may be edited: a sample leaves at the first stop where its score is at least the threshold; null: all,
1e308: none.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime


class Runner:
    """All stages, loaded once; `thresholds` may be changed."""

    def __init__(self, folder=".", threads=0, providers=("CPUExecutionProvider",)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        facts = json.loads((Path(folder) / "thresholds.json").read_text(encoding="utf-8"))
        self.thresholds, self.exits = facts["thresholds"], facts["exits"]
        files = [Path(folder) / f"stage_{number}.onnx" for number in range(len(self.thresholds))]
        self.stages = [onnxruntime.InferenceSession(file, options, providers=list(providers)) for file in files]
        self.inputs = [[value.name for value in stage.get_inputs()] for stage in self.stages]
        self.outputs = [[value.name for value in stage.get_outputs()] for stage in self.stages]

    def predict(self, x):
        """Class of each sample (-1: handed on), the stop where it left, its score there. Each [N]"""
        answer, stop = np.full(len(x), -1, np.int64), np.full(len(x), len(self.stages), np.int64)
        score = np.full(len(x), np.nan, np.float32)
        rows, held = np.arange(len(x)), {"x": x}  # the samples still on their way, and what later stages read of them
        for number, (stage, threshold) in enumerate(zip(self.stages, self.thresholds, strict=True)):
            made = stage.run(self.outputs[number], {name: held[name] for name in self.inputs[number]})
            held.update(zip(self.outputs[number], made, strict=True))
            said, sure = held["answer"], held["score"]
            leaves = np.full(len(rows), True) if threshold is None else sure.astype(np.float64) >= threshold
            gone = rows[leaves]
            answer[gone], stop[gone], score[gone] = said[leaves], number, sure[leaves]
            if len(gone) == len(rows):
                break
            needed = {name for names in self.inputs[number + 1 :] for name in names}
            held = {name: held[name] for name in needed if name in held}
            if len(gone):
                rows, held = rows[~leaves], {name: value[~leaves] for name, value in held.items()}
        return answer, stop, score
