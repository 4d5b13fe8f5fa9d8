"""What goes over a link: raw tensors of a known layout, and nothing else."""

from __future__ import annotations

import socket

import pytest
import torch

from eesearch.core.errors import PolicyError
from eesearch.nets.links import quantize, restore
from eesearch.study.wire import HEADER, REPLY, Format, Reply, receive_carry, receive_reply, send_carry, send_reply

CARRY = (torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)), torch.arange(2)[None], torch.tensor([True]))
PLAIN, CODED = (Format.of(CARRY, coded=coded) for coded in (False, True))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_payloads_round_trip():
    assert PLAIN.size == 48 + 16 + 1
    assert all(torch.equal(*pair) for pair in zip(PLAIN.unpack(PLAIN.pack(CARRY)), CARRY, strict=True))


def test_codes_are_restored_as_the_network_restores_them():
    payload = CODED.pack(CARRY)
    assert len(payload) == CODED.size == 12 + 8 + 16 + 1
    found = CODED.unpack(payload)
    assert torch.equal(found[0], restore(*quantize(CARRY[0])).view_as(CARRY[0]))
    assert torch.equal(found[1], CARRY[1])


def test_a_payload_of_another_length_is_refused():
    with pytest.raises(PolicyError, match="another length"):
        CODED.unpack(PLAIN.pack(CARRY))


def test_carries_and_replies_cross_a_line(ends):
    ours, theirs = ends
    assert send_carry(ours, 3, PLAIN.pack(CARRY)) == HEADER.size
    assert receive_carry(theirs, {3: PLAIN}) == (3, PLAIN.pack(CARRY))
    send_reply(theirs, Reply(-1, 4, 0.5, 100, 8))
    assert receive_reply(ours) == Reply(-1, 4, 0.5, 100, 8)


@pytest.mark.parametrize(
    ("stage", "size"), [(0, PLAIN.size), (3, 10), (3, 2**32 - 1)], ids=["no such stage", "short", "endless"]
)
def test_what_no_stage_waits_for_is_refused_unread(ends, stage, size):
    ours, theirs = ends
    ours.sendall(HEADER.pack(stage, size) + b"left")
    with pytest.raises(PolicyError, match="no stage waits for"):
        receive_carry(theirs, {3: PLAIN})
    assert theirs.recv(4) == b"left"


def test_a_line_that_ends_is_told(ends):
    ours, theirs = ends
    ours.sendall(HEADER.pack(3, PLAIN.size) + b"abc")
    ours.close()
    with pytest.raises(PolicyError, match="broke off"):
        receive_carry(theirs, {3: PLAIN})
    assert receive_carry(theirs, {3: PLAIN}) is None
    with pytest.raises(PolicyError, match="hung up before it answered"):
        receive_reply(theirs)
    assert REPLY.size == 36
