import pytest

from eesearch.training.freezing import START_AND_POWER, freeze_share, freezing_rate


@pytest.mark.parametrize("kind", START_AND_POWER)
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_deeper_parts_learn_longer_and_the_last_to_the_end(kind, parts):
    start, power = START_AND_POWER[kind]
    shares = [freeze_share(number, parts, start=start, power=power) for number in range(parts)]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0
    if parts > 1:
        assert shares[0] == pytest.approx(start**power)


def test_the_authors_cubic_freezes_the_first_part_after_half_of_the_steps():
    """Brock et al. 2017: t0 = 0.8 cubed is 0.512."""
    start, power = START_AND_POWER["cubic"]
    assert freeze_share(0, 5, start=start, power=power) == pytest.approx(0.512)


def test_the_rate_falls_from_1_to_0_and_stays_there():
    rates = [freezing_rate(step, 20.5) for step in range(40)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[20] > 0.0
    assert set(rates[21:]) == {0.0}
