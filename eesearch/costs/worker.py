"""The measuring process: `python -m eesearch.costs.worker THREADS`, a task on its standard input, JSON on its output.

Started by `latency.messages` only. It pins itself before torch is imported, so that torch's own threads inherit it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from eesearch.costs.machine import pin

if TYPE_CHECKING:
    from eesearch.costs.devices import Device
    from eesearch.costs.latency import Job
    from eesearch.costs.pieces import Prepared
    from eesearch.costs.timer import Clock, Protocol


def main(threads: int) -> None:
    """Do what the parent sends, the name of a function and its arguments, tell the results, and end."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the user's modules print must not run into the answers
    pin(threads)
    payload = sys.stdin.buffer.read()
    import torch

    from eesearch.costs.timer import Clock
    from eesearch.nets.vision import unpickled

    torch.set_num_threads(threads)
    try:
        task, arguments = unpickled(payload)
    except Exception as error:  # an import of the user's code that fails here: told to the parent
        _tell(channel, {"job": "the model", "error": f"{type(error).__name__}: {error}"})
        return
    gc.disable()
    module, _, name = task.partition(":")
    getattr(import_module(module), name)(*arguments, Clock.of(threads), channel)


def serve(
    jobs: tuple[Job, ...],
    device: Device,
    protocol: Protocol,
    clock: Clock,
    channel: IO[str],
) -> None:
    """Measure jobs one after the other and write each reply; stops at the first job that fails.

    Args:
        jobs: What to measure.
        device: Whose back end runs the parts.
        protocol: How long and how often.
        clock: Where the time comes from.
        channel: Gets a line of JSON per job (its name and the fields of `timer.Rounds`), then `"done"`; or an `error`.
    """
    import torch

    from eesearch.costs.meters import open_meter
    from eesearch.costs.timer import time_call

    meter = open_meter(device.kind)
    for job in jobs:
        try:
            with torch.inference_mode():
                load = partial(_load, device)
                minus = load(job.minus) if job.minus else None
                rounds = time_call(load(job.parts, decides=job.decides), protocol, clock, minus, meter)
        except Exception as error:  # whatever the user's module raises: told to the parent
            _tell(channel, {"job": job.name, "error": f"{type(error).__name__}: {error}"})
            return
        gc.collect()
        _tell(channel, {"job": job.name, **asdict(rounds)})
    _tell(channel, "done")


def _load(device: Device, parts: tuple[Prepared, ...], *, decides: bool = False) -> Callable[[], Any]:
    """Parts in a row as one call without arguments."""
    from torch import nn

    from eesearch.costs.calls import in_a_row

    for part in parts:
        if isinstance(part.form, nn.Module):
            part.form.eval()  # this process's own copy
    calls = [device.runs.load(part.form, part.args, device.threads) for part in parts]
    return in_a_row(calls, [device.runs.native(tensor) for tensor in parts[0].args], decides=decides)


def _tell(channel: IO[str], message: object) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
