"""A policy that really runs on tiers: one process each on this machine, carries over TCP on the loopback.

It confirms what a system's profile says: the bytes that are sent, who waits longer than whom, and that the answers are
those of the network in one piece. It is no measurement of the system: all tiers share this machine.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import IO

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eesearch.core.errors import PolicyError, RunError
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.systems import SystemProfile
from eesearch.costs.devices import parse_device
from eesearch.costs.latency import environment
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.inputs import as_tensor
from eesearch.nets.modes import evaluating
from eesearch.nets.stages import Stage
from eesearch.study.tier_server import Part, Runner, connect
from eesearch.study.wire import Format, Reply


@dataclass(frozen=True, eq=False)
class Walks:
    """What happened to each sample.

    Attributes:
        answer: int64 [N]
        exit: Index into the policy's stops. int64 [N]
        score: float32 [N]
        payload: Bytes of carries that crossed links. int64 [N]
        framing: Bytes around them. int64 [N]
        ms: Wall time. [N]
    """

    answer: NDArray[np.int64]
    exit: NDArray[np.int64]
    score: NDArray[np.float32]
    payload: NDArray[np.int64]
    framing: NDArray[np.int64]
    ms: NDArray[np.float64]


def parts_of(net: ExitNet | CascadeNet, policy: Policy, fits: Sequence[Fit], system: SystemProfile) -> list[Part]:
    """What each tier knows of a policy.

    Args:
        net: With all the exits that the policy stops at.
        policy: Its exits name tiers of the system.
        fits: Those that its thresholds were chosen with.
        system: Whose links are declared: a sender waits their round trip, not the time of their bytes. Of several
            networks, that of any: they have the same.

    Raises:
        PolicyError: the policy decides by several exits, or hands samples on to a last resort; or the first tier is
            several devices.
    """
    scoring = Scoring.of(policy, fits)
    if scoring.decision.memory != "last" or policy.exits[-1].is_last_resort:
        raise PolicyError("only a carry crosses a link", got=policy.decision, expected="one exit decides, and answers")
    if system.tiers[0].devices > 1:
        raise PolicyError("a tier is one process", got=f"{system.tiers[0].devices} devices on '{system.names[0]}'")
    runs = net.runs(policy, coding=False) if isinstance(net, CascadeNet) else (net.stages(policy, coding=False),)
    stages = tuple(chain.from_iterable(runs))
    tiers = tuple(system.tier(stage.exit) for stage in stages)
    rows = scoring.parameters([stage.exit for stage in stages])
    parameters = {kind: torch.from_numpy(values.copy()) for kind, values in rows.items()}
    formats = [layout for run in runs for layout in _formats(net, run)]
    entered = frozenset(accumulate(len(run) for run in runs[:-1]))
    waits = [*(link.round_trip / 1000.0 for link in system.links), 0.0]
    return [
        Part(
            number=tier,
            tiers=tiers,
            stages={k: stage for k, stage in enumerate(stages) if tiers[k] == tier},
            formats={k: formats[k] for k in range(len(stages)) if tiers[k] >= tier},
            criterion=scoring.decision,
            parameters=parameters,
            waits=waits[tier],
            entered=entered,
        )
        for tier in range(max(tiers) + 1)
    ]


def _formats(net: ExitNet | CascadeNet, stages: Sequence[Stage]) -> list[Format]:
    """How the carry is laid out that each stage of one network is given."""
    carry: tuple[Tensor, ...] = (net.backbone.example[:1],)
    formats, link = [], ""
    with evaluating(net), torch.inference_mode():
        for stage in stages:
            formats.append(Format.of(carry, coded=stage.exit.link != link))
            carry, link = stage.segment(*carry), stage.exit.link
    return formats


class Loopback:
    """A policy on tiers, each later one in a process of its own; a context manager.

    Args:
        net: With all the exits that the policy stops at.
        policy: Its exits name tiers of the system.
        fits: Those that its thresholds were chosen with.
        system: Its tiers.
    """

    def __init__(self, net: ExitNet | CascadeNet, policy: Policy, fits: Sequence[Fit], system: SystemProfile) -> None:
        self.net = net.eval()
        self.parts = parts_of(net, policy, fits, system)
        self._stack = ExitStack()

    def __enter__(self) -> Loopback:
        with ExitStack() as stack:
            port, token = None, secrets.token_bytes(16)
            for part in reversed(self.parts[1:]):
                port = stack.enter_context(_tier(part, port, token))
            line = None if port is None else stack.enter_context(connect(port, token))
            self._runner = Runner(self.parts[0], line)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def predict(self, x: Tensor | NDArray[np.generic]) -> Walks:
        """Answer raw samples [N, ...], one after the other.

        Raises:
            PolicyError: a tier hung up.
        """
        found = [self._one(as_tensor(x[i : i + 1])) for i in range(len(x))]
        replies = [reply for reply, _ in found]
        return Walks(
            answer=np.array([reply.answer for reply in replies], np.int64),
            exit=np.array([reply.stop for reply in replies], np.int64),
            score=np.array([reply.score for reply in replies], np.float32),
            payload=np.array([reply.payload for reply in replies], np.int64),
            framing=np.array([reply.framing for reply in replies], np.int64),
            ms=np.array([ms for _, ms in found]),
        )

    def _one(self, x: Tensor) -> tuple[Reply, float]:
        start = time.perf_counter()
        with torch.inference_mode():
            reply = self._runner.sample(x)
        return reply, 1000.0 * (time.perf_counter() - start)


@contextmanager
def _tier(part: Part, following: int | None, token: bytes) -> Iterator[int]:
    """Start the process of a tier, and yield its port; whatever happens, it is gone afterwards.

    Raises:
        RunError: it did not start.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "eesearch.study.tier_server", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(parse_device("cpu:eager:t1:b1")),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it died at once: told below, with its last words
                process.stdin.write(cloudpickle.dumps((part, following, token)))
                process.stdin.close()
            told = process.stdout.readline().strip()
            if not told.isdigit():
                raise RunError("a tier did not start", got=_last_words(errors))
            yield int(told)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    return " / ".join(errors.read().decode(errors="replace").strip().splitlines()[-3:]) or "no message"
