"""Runs the stages of a network with early exits by OpenVINO, and really stops; needs openvino and numpy only.

    runner = Runner("folder")                  # where stage_0.xml, stage_0.bin, ..., thresholds.json lie
    answer, exit, score = runner.predict(x)    # raw samples [N, ...], N >= 1

thresholds.json may be edited: a sample leaves at the first stop where its score is at least the threshold; null: all,
1e308: none.
"""

import json
from pathlib import Path

import numpy as np
import openvino


class Runner:
    """All stages, compiled once, in single precision; `thresholds` may be changed."""

    def __init__(self, folder=".", threads=0, device="CPU"):
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}  # else as many as there are cores
        facts = json.loads((Path(folder) / "thresholds.json").read_text(encoding="utf-8"))
        self.thresholds, self.exits = facts["thresholds"], facts["exits"]
        core = openvino.Core()
        files = [Path(folder) / f"stage_{number}.xml" for number in range(len(self.thresholds))]
        self.stages = [core.compile_model(file, device, settings) for file in files]
        self.requests = [stage.create_infer_request() for stage in self.stages]
        self.inputs = [[value.any_name for value in stage.inputs] for stage in self.stages]
        self.outputs = [[value.any_name for value in stage.outputs] for stage in self.stages]

    def predict(self, x):
        """Class of each sample (-1: handed on), the stop where it left, its score there. Each [N]"""
        answer, stop = np.full(len(x), -1, np.int64), np.full(len(x), len(self.stages), np.int64)
        score = np.full(len(x), np.nan, np.float32)
        rows, held = np.arange(len(x)), {"x": x}  # the samples still on their way, and what later stages read of them
        for number, (request, threshold) in enumerate(zip(self.requests, self.thresholds, strict=True)):
            for i, name in enumerate(self.inputs[number]):  # passing them to `infer` takes longer than a small stage
                request.set_input_tensor(i, openvino.Tensor(np.ascontiguousarray(held[name]), shared_memory=True))
            request.infer()
            made = {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(self.outputs[number])}
            held.update(made)
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
