from eesearch.reporting.elsewhere import elsewhere_rows, elsewhere_sentences
from eesearch.reporting.html import render_html
from eesearch.reporting.markdown import markdown_report
from eesearch.study.points import PickElsewhere
from tests.unit.reporting.conftest import device, make_answers

HERE, THERE = "macs", "cpu:eager:t1:b1"


def crossed(mine, theirs, *, points=(3, 3), limit=0.01, names=(HERE, THERE)):
    """Two devices that pick `points` within a limit; `mine`, `theirs`: what they cost here, and there."""
    picks = tuple(
        PickElsewhere(limit=limit, device=name, point=point, ratios=dict(zip(names, costs, strict=True)))
        for name, point, costs in zip(names, points, (mine, theirs), strict=True)
    )
    return make_answers(elsewhere=picks)


def test_rows_tell_the_pick_and_what_others_would_cost():
    first, second = elsewhere_rows(crossed((0.5, 0.8), (0.6, 0.7), points=(2, 3)))
    assert (first.limit, first.device, first.point, first.ratio) == ("1", HERE, "2", "0.500")
    assert first.exits == ("layer1.4", "layer2.3", "output")
    assert first.others == ("own", "+20.0 %")
    assert second.others == ("+14.3 %", "own")


def test_a_price_that_nobody_can_tell_is_a_dash_and_an_equal_one_says_so():
    answers = crossed((0.5, 0.8), (0.5, 0.7))
    unknown = answers.elsewhere[0].model_copy(update={"ratios": {HERE: 0.5}})
    first, second = elsewhere_rows(answers.model_copy(update={"elsewhere": (unknown, answers.elsewhere[1])}))
    assert first.others == ("own", "equal")
    assert second.others == ("-", "own")


def test_other_exits_that_cost_more_than_the_noise_are_a_yes():
    (told,) = elsewhere_sentences(crossed((0.5, 0.8), (0.6, 0.7), points=(2, 3)))
    assert told == (
        "Yes. Within 1 point, what cpu:eager:t1:b1 picks would cost 20% more on macs than its own pick "
        "(multiply-adds): its own leaves at layer1.4, layer2.3, output; that of cpu:eager:t1:b1 at layer2.3, output."
    )


def test_other_exits_that_cost_the_same_do_not_count():
    (told,) = elsewhere_sentences(crossed((0.5, 0.71), (0.51, 0.7), points=(2, 3), limit=0.0))
    assert told.startswith("Not so that it counts: the exits that are picked differ")
    assert "costs at most 2.0% more" in told


def test_the_same_exits_are_a_no():
    (told,) = elsewhere_sentences(crossed((0.5, 0.7), (0.5, 0.7)))
    assert told == "No: within every limit all devices pick the same exits; others' picks cost at most 0.0% more."


def test_one_device_has_no_such_section():
    alone = make_answers(devices=(device(HERE, "macs"),))
    assert elsewhere_rows(alone) == elsewhere_sentences(alone) == []
    assert "change with the device" not in markdown_report(alone)
    assert 'id="elsewhere"' not in render_html(alone)


def test_page_and_markdown_show_it():
    answers = crossed((0.5, 0.8), (0.6, 0.7), points=(2, 3))
    page, text = render_html(answers), markdown_report(answers)
    assert '<a href="#elsewhere">Devices</a>' in page
    assert "<td>layer1.4, layer2.3, output</td>" in page
    assert "## Do the best exits change with the device?\n\nYes. Within 1 point" in text
    assert "| 1 | macs | layer1.4<br>layer2.3<br>output | 2 | 0.500 | own | +20.0 % |" in text
