from eesearch.study.elsewhere import picks_elsewhere
from tests.unit.reporting.conftest import device, make_answers


def test_one_device_picks_for_itself_alone():
    assert picks_elsewhere([device("macs", "macs")], lambda *_: 1.0) == ()


def test_every_pick_is_priced_on_every_device_once_per_point():
    devices, asked = make_answers().devices, []

    def price(point, name):
        asked.append(name)
        return 2.0

    picks = picks_elsewhere(devices, price)
    assert [(pick.limit, pick.device) for pick in picks[:2]] == [(0.0, "macs"), (0.0, "cpu:eager:t1:b1")]
    assert len(picks) == 8
    for pick in picks:
        own = next(d for d in devices if d.device == pick.device)
        assert pick.point == own.points.index(own.within(pick.limit))
        (other,) = pick.ratios.keys() - {pick.device}
        assert pick.ratios[other] == 2.0
        assert pick.ratios[pick.device] == own.ratio(own.points[pick.point])
    assert len(asked) == len({(pick.device, pick.point) for pick in picks})


def test_what_cannot_be_told_is_left_out_and_broken_fronts_pick_nothing():
    first, second = make_answers().devices
    picks = picks_elsewhere([first, second.model_copy(update={"broken": ("worst params",)})], lambda *_: None)
    assert {pick.device for pick in picks} == {"macs"}
    assert all(pick.ratios.keys() == {"macs"} for pick in picks)
