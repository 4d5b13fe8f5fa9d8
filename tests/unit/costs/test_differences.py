"""Two devices of one network whose figures are made up, so that ranks, ties and swaps are known by hand."""

from math import inf

import pytest

from eesearch.core.costs import DeviceProfile, LatencyProfile
from eesearch.core.errors import CostError
from eesearch.costs.differences import compare_profiles

CUTS = ("a", "b", "c")
MACS = (1.0, 2.0, 3.0, 4.0)


def made(name, prefix, heads, *, cuts=CUTS, noise=0.02, macs=MACS, resume=0.0, decision=0.0):
    """A timed profile: `heads` is a cost per cut, of the head `linear`."""
    head_ms = {cut: {"linear": ms} for cut, ms in zip(cuts, heads, strict=True)} if heads else {}
    latency = LatencyProfile(
        prefix_ms=prefix, head_ms=head_ms, decision_ms={"max_prob": decision}, resume_ms=resume, timings={}, noise=noise
    )
    return DeviceProfile(
        device=name, fingerprint={}, content="", cuts=cuts, macs_prefix=macs, macs_head=head_ms, latency=latency
    )


def test_shares_are_of_the_whole_network_and_an_exit_pays_from_its_break_even():
    here = made("x", (1.0, 2.0, 3.0, 4.0), (0.1, 0.1, 0.1), resume=0.05, decision=0.05)
    cut = compare_profiles(here, here).cuts[1]
    assert cut.here == cut.there
    assert (cut.here.prefix, cut.here.exit) == (0.5, pytest.approx(0.15 / 4.0))
    assert cut.here.leaving == pytest.approx(2.15 / 4.0)
    leavers = cut.here.pays
    going_on = 4.0 - 2.0 + 0.05 + 0.05  # with the resumption, and the decision that the own classifier makes
    assert 2.0 + 0.15 + (1.0 - leavers) * going_on == pytest.approx(4.0)


def test_an_exit_that_costs_more_than_what_is_left_never_pays():
    found = compare_profiles(made("x", (1.0, 2.0, 3.0, 4.0), (0.1, 0.1, 1.5)), made("y", MACS, (0.1, 0.1, 0.1)))
    assert found.cuts[2].here.pays == inf
    assert found.cuts[2].there.pays < 1.0


def test_cuts_change_places_where_both_devices_are_clear_about_it():
    here = made("x", (1.0, 2.0, 3.0, 4.0), (0.1, 0.4, 0.3))
    there = made("y", (10.0, 20.0, 30.0, 40.0), (4.0, 0.5, 0.3))
    found = compare_profiles(here, there)
    by_pays = [swap for swap in found.swaps if swap.by == "pays"]
    assert {(s.first, s.second) for s in by_pays} == {("a", "b"), ("a", "c")}
    assert by_pays[0].gap >= by_pays[-1].gap > 0.0
    assert [cut.ranks["pays"] for cut in found.cuts] == [(1, 3), (2, 1), (3, 2)]
    assert found.verdict().startswith("3 of 3 cuts change places: an exit at 'a' pays sooner than one at '")
    assert "on x, and later on y" in found.verdict()


def test_differences_below_the_noise_are_ties():
    here, there = made("x", MACS, (0.10, 0.11, 0.5)), made("y", MACS, (0.11, 0.10, 0.5), noise=0.05)
    found = compare_profiles(here, there)
    assert [swap for swap in found.swaps if swap.by == "exit"] == []
    here, there = (
        profile.model_copy(update={"latency": profile.latency.model_copy(update={"noise": 0.0})})
        for profile in (here, there)
    )
    exact = compare_profiles(here, there)
    assert [(s.first, s.second) for s in exact.swaps if s.by == "exit"] == [("a", "b")]


def test_the_same_device_changes_nothing_and_says_so():
    here = made("x", (1.0, 2.5, 3.0, 4.0), (0.1, 0.2, 0.3))
    found = compare_profiles(here, here)
    assert found.swaps == ()
    assert found.verdict().startswith("No two of 3 cuts change places beyond the noise")
    assert found.correlations == {"prefixes": 1.0, "parts": 1.0, "heads": 1.0, "pays": 1.0}


def test_the_verdict_tells_where_they_are_furthest_apart():
    found = compare_profiles(made("x", (1.0, 2.0, 3.5, 4.0), ()), made("y", (1.0, 3.6, 3.8, 4.0), ()))
    assert "furthest apart at 'b', which is reached after 50% of the cost on x and 90% on y" in found.verdict()
    assert found.correlations["heads"] is None
    assert found.correlations["parts"] < 1.0


def test_common_cuts_are_compared_and_the_others_told():
    here = made("x", MACS, (0.1, 0.2, 0.3))
    there = made("y", (2.0, 2.5, 4.0), (0.1, 0.1), cuts=("b", "d"), macs=(2.0, 2.5, 4.0))
    found = compare_profiles(here, there)
    assert [cut.cut for cut in found.cuts] == ["b"]
    assert found.left_out == ("a", "c", "d")
    assert set(found.correlations.values()) == {None, found.correlations["parts"]}


def test_a_cut_without_a_common_head_is_left_out():
    here = made("x", MACS, (0.1, 0.2, 0.3))
    there = here.model_copy(
        update={"latency": here.latency.model_copy(update={"head_ms": here.latency.head_ms | {"b": {"mlp": 0.1}}})}
    )
    assert compare_profiles(here, there).left_out == ("b",)


def test_multiply_adds_can_be_set_beside_milliseconds():
    counted = made("macs", MACS, (0.1, 0.2, 0.3)).model_copy(update={"latency": None})
    found = compare_profiles(counted, made("y", (2.0, 3.0, 3.5, 4.0), (0.1, 0.1, 0.1)))
    assert found.noise == (0.0, 0.02)
    assert found.cuts[0].here.prefix == 0.25
    assert found.cuts[0].there.prefix == 0.5


def test_other_networks_are_refused():
    here = made("x", MACS, (0.1, 0.2, 0.3))
    with pytest.raises(CostError, match=r"no cut in common; got a, b, c and d, e\. Measure both with the same study"):
        compare_profiles(here, made("y", (1.0, 2.0, 4.0), (0.1, 0.1), cuts=("d", "e"), macs=(1.0, 2.0, 4.0)))
    with pytest.raises(CostError, match="different networks: the multiply-adds up to 'b' differ; got 2 and 3"):
        compare_profiles(here, made("y", MACS, (0.1, 0.2, 0.3), macs=(1.0, 3.0, 3.5, 4.0)))
    with pytest.raises(CostError, match="up to 'output' differ; got 4 and 5"):
        compare_profiles(here, made("y", MACS, (0.1, 0.2, 0.3), macs=(1.0, 2.0, 3.0, 5.0)))
