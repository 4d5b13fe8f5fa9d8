"""What is timed around the loaded parts: the same steps as in a deployed network."""

import numpy as np
import torch

from eesearch.costs.calls import in_a_row


def test_parts_run_one_after_the_other():
    double = lambda x, y: (2 * x, y)  # noqa: E731
    assert in_a_row([double, double], [np.ones(1), np.zeros(1)])() == (4.0, 0.0)


def test_of_one_sample_the_host_reads_score_and_answer():
    for make in (np.array, torch.tensor):
        stage = lambda x, make=make: (x, make([7]), make([0.75]))  # noqa: E731
        assert in_a_row([stage], [make([1.0])], decides=True)() == (True, 7)


def test_of_several_those_that_stay_are_picked_from_the_carry():
    given = []

    def second(*carry):
        given.append(carry)
        return carry

    for make in (np.array, torch.tensor):
        x, mask = make([1.0, 2.0]), make([[3], [4]])
        in_a_row([lambda *carry: carry, second], [x, mask])()
        (picked, rest) = given.pop()
        assert picked is not x
        assert type(picked) is type(x)
        assert (picked.tolist(), rest.tolist()) == ([1.0, 2.0], [[3], [4]])


def test_of_several_the_host_keeps_the_answers_of_those_that_leave():
    for make in (np.array, torch.tensor):
        stage = lambda x, make=make: (make([7, 8]), make([0.75, 0.25]))  # noqa: E731
        all_left, kept = in_a_row([stage], [make([1.0, 2.0])], decides=True)()
        assert not all_left
        assert kept.tolist() == [7]
