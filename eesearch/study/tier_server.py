"""One tier of a policy that runs: its stages in this process, and the line to the next tier.

`python -m eesearch.study.tier_server THREADS` is started by `loopback.Loopback` only. It reads its part of the policy
as a pickle from its standard input, from its parent and nobody else, listens on 127.0.0.1 at a port that the system
chooses, tells it on its standard output, and answers one line until it is hung up. Over the line go raw tensors alone,
after a token that only its parent's other processes know.
"""

from __future__ import annotations

import hmac
import os
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf, nan
from typing import TYPE_CHECKING, Any

from eesearch.core.design import ABSTAINED

if TYPE_CHECKING:
    from torch import Tensor

    from eesearch.core.policy import Criterion
    from eesearch.nets.backbone import Carry
    from eesearch.nets.stages import Stage
    from eesearch.study.wire import Format, Reply

HOST = "127.0.0.1"


@dataclass(frozen=True, eq=False)
class Part:
    """What one tier knows.

    Attributes:
        number: Of the tier.
        tiers: Tier of each stage of the policy, rising. [k]
        stages: By number; those of this tier alone. Their segments do not code: payloads are coded already.
        formats: By number of a stage: how the carry is laid out that it is given from an earlier tier.
        criterion: What decides; of memory `last`.
        parameters: Fitted values of each kind, a row per stage. Each [k, D]
        waits: Seconds that a message to the next tier and its answer take beside their bytes.
        entered: Stages at which another network is entered, with the raw sample, which the first tier keeps.
    """

    number: int
    tiers: tuple[int, ...]
    stages: dict[int, Stage]
    formats: dict[int, Format]
    criterion: Criterion
    parameters: dict[str, Tensor]
    waits: float
    entered: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Runner:
    """Runs the stages of a tier, and asks the next tier where samples go on.

    Attributes:
        part: What this tier knows.
        line: To the next tier; None on the last.
    """

    part: Part
    line: socket.socket | None = None

    def sample(self, x: Tensor) -> Reply:
        """What becomes of a raw sample, on the first tier: whoever a network is not sure about starts in the next."""
        reply = self.answer(0, (x,))
        while reply.answer == ABSTAINED:
            again = self.answer(reply.stop, (x,))
            payload, framing = reply.payload + again.payload, reply.framing + again.framing
            reply = replace(again, payload=payload, framing=framing)
        return reply

    def answer(self, stage: int, carry: Carry) -> Reply:
        """What becomes of one sample that goes on with `stage`, which may lie further on.

        Where it goes on to another network, the answer is `ABSTAINED`, and the stop is where it starts again.

        Args:
            stage: Its number.
            carry: What it is given, of one sample.
        """
        from eesearch.study.wire import Reply

        part = self.part
        while part.tiers[stage] == part.number:
            carry, reply = self._run(stage, carry)
            if reply is not None:
                return reply
            stage += 1
            if stage in part.entered:
                return Reply(ABSTAINED, stage, nan)
        return self.forward(stage, part.formats[stage].pack(carry))

    def _run(self, number: int, carry: Carry) -> tuple[Carry, Reply | None]:
        from eesearch.study.wire import Reply

        stage, part = self.part.stages[number], self.part
        if stage.is_silent:
            return stage.segment(*carry), None
        carry, logits = stage.run(carry)
        rows = {kind: values[number : number + 1] for kind, values in part.parameters.items()}
        said, sure = part.criterion.function(logits[None], rows)
        score = sure.item()
        if score >= stage.threshold or stage.threshold == -inf:
            chosen = (logits if part.criterion.own_answer else said).argmax(-1).item()
            return carry, Reply(int(chosen), number, float(score))
        return carry, None

    def forward(self, stage: int, payload: bytes) -> Reply:
        """Have a payload answered by the next tier, or by one behind it."""
        from eesearch.study.wire import receive_reply, send_carry

        assert self.line is not None
        if self.part.waits:
            time.sleep(self.part.waits)
        framing = send_carry(self.line, stage, payload)
        reply = receive_reply(self.line)
        return replace(reply, payload=reply.payload + len(payload), framing=reply.framing + framing)


def serve(runner: Runner, line: socket.socket) -> None:
    """Answer what comes over a line until it is hung up.

    Raises:
        PolicyError: what came is no carry that a stage from here on waits for.
    """
    import torch

    from eesearch.study.wire import receive_carry, send_reply

    part = runner.part
    with torch.inference_mode():
        while (received := receive_carry(line, part.formats)) is not None:
            stage, payload = received
            if part.tiers[stage] == part.number:
                reply = runner.answer(stage, part.formats[stage].unpack(payload))
            else:  # it only passes by
                reply = runner.forward(stage, payload)
            send_reply(line, reply)


def connect(port: int, token: bytes) -> socket.socket:
    """A line to a tier on this machine that lets in who knows its token; small messages are not held back."""
    line = socket.create_connection((HOST, port), timeout=60)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(token)
    return line


def _let_in(line: socket.socket, token: bytes) -> bool:
    """Whether who called knows the token."""
    from eesearch.study.wire import receive

    line.settimeout(60)
    return hmac.compare_digest(receive(line, len(token)) or b"", token)


def main(threads: int) -> None:
    """Listen, tell the port, and serve one line."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the user's modules print must not run into the port
    payload = sys.stdin.buffer.read()
    import torch

    from eesearch.nets.vision import unpickled

    torch.set_num_threads(threads)
    following: int | None
    part: Any
    part, following, token = unpickled(payload)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((HOST, 0), backlog=1))
        listening.settimeout(60)
        onward = None if following is None else stack.enter_context(connect(following, token))
        channel.write(f"{listening.getsockname()[1]}\n")
        line = stack.enter_context(listening.accept()[0])
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not _let_in(line, token):
            sys.exit("somebody else called")
        line.settimeout(None)
        serve(Runner(part, onward), line)


if __name__ == "__main__":
    main(int(sys.argv[1]))
