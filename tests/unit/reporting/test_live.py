import io
import logging
import re
import sys

import pytest
from rich.console import Console

from eesearch.reporting.live import LiveView, trial_words
from eesearch.reporting.standing import Standing
from eesearch.study.question import Budget
from eesearch.study.trial import Finished, Outcome


class Terminal(io.StringIO):
    def isatty(self):
        return True


def standing():
    return Standing(Budget(trials=20), clock=Clock())


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


GOOD = Finished(3, "sampler", Outcome(design=None, values=(0.301937,)), "", 12.34, "complete")
STOPPED = Finished(5, "sampler", None, "", 3.0, "pruned", samples=1508)
BAD = Finished(4, "panda [red] 2", None, "HeadError: conv\n  does not fit", 0.2, "failed")


@pytest.fixture
def view():
    """A view on a made-up terminal and clock that is refreshed by hand."""
    made = LiveView(standing(), stream=Terminal(), clock=Clock())
    made._display.auto_refresh = False
    with made:
        yield made


def look(view, width=100, height=40):
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(view)
    return console.file.getvalue()


def test_nothing_is_shown_where_nobody_looks(answers):
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        with LiveView(standing(), quiet=quiet, stream=stream) as view:
            assert not view.shown
            view("train bank", 1, 10)
            view.trial(GOOD)
            view.answers(answers)
        assert stream.getvalue() == ""
        assert view.standing.words().startswith("3 of 20 trials"), "it is told all the same"


def test_the_panel_says_how_many_trials_the_verdict_and_the_front(view, answers):
    assert look(view).strip() == "", "before the first answers there is nothing to tell"
    view.answers(answers)
    text = look(view)
    assert "cifar10_resnet56: 3 of 20 trials (1 failed), best 0.4702; 5 points on the front of macs" in text
    view.trial(STOPPED)
    assert "4 of 20 trials (1 failed, 1 stopped early)" in look(view), "at once, not with the next answers"
    assert "macs: exits pay. At no loss on calibration 0.70 x the backbone's multiply-adds" in text
    assert "● front on calibration" in text
    assert max(map(len, text.splitlines())) <= 100


def test_bars_stand_above_the_front(view, answers):
    view("train joint", 0, 100)
    view._bars.get_time.now = 4.0
    view("train joint", 20, 100)
    view.answers(answers)
    lines = look(view).splitlines()
    assert "train joint" in lines[0]
    assert "20/100 5.0/s, 16.0 s left" in lines[0]


@pytest.mark.parametrize(
    ("width", "height", "plotted"), [(60, 40, True), (59, 40, False), (100, 14, False), (100, 15, True)]
)
def test_small_terminals_get_no_plot_but_the_words(view, answers, width, height, plotted):
    view.answers(answers)
    text = look(view, width, height)
    assert ("│" in text) == plotted
    assert "exits pay" in text
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) <= height


def test_letters_that_the_terminal_does_not_know_are_not_used(view, answers):
    view.answers(answers)
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=100)
    console.print(view)
    console.file.flush()
    assert b"X backbone" in raw.getvalue()


def test_a_front_without_points_is_told_in_words(view, answers):
    bare = answers.devices[0].model_copy(update={"points": ()})
    view.answers(answers.model_copy(update={"devices": (bare,)}))
    text = look(view)
    assert "0 points" in text
    assert "│" not in text


def test_foreign_names_are_no_markup(view, hostile):
    view.answers(hostile)
    assert "[red]" in look(view)


def test_trials_stay_above_the_panel_and_nothing_goes_to_standard_output(answers, capsys):
    stream = Terminal()
    with LiveView(standing(), stream=stream) as view:
        view.answers(answers)
        view.trial(GOOD)
        view.trial(BAD)
        sys.stdout.write("mine")
    shown = stream.getvalue()
    assert "trial 3 (sampler): value 0.3019, 12.3 s" in shown
    assert "trial 4 (panda [red] 2): HeadError: conv does not fit, 0.2 s" in shown
    assert capsys.readouterr().out == "mine"
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h")), "the panel is gone, and the cursor is back"


def test_neither_lines_nor_the_panel_outgrow_the_terminal(answers, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    with LiveView(standing(), stream=stream, clock=Clock()) as view:
        view.answers(answers)
        view.trial(BAD)
    lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n").splitlines()
    assert "exits pay" in stream.getvalue()
    assert max(map(len, lines)) <= 50


def test_an_error_leaves_the_terminal_as_it_was(answers):
    stream, before = Terminal(), (sys.stdout, sys.stderr, logging.root.handlers[:])

    def interrupted():
        with LiveView(standing(), stream=stream) as view:
            view.answers(answers)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (sys.stdout, sys.stderr, logging.root.handlers[:]) == before
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_words_for_trials():
    assert trial_words(STOPPED) == "trial 5 (sampler): stopped early, after 1,508 samples, 3.0 s"
    two = Finished(0, "sampler", Outcome(design=None, values=(0.1, 0.25)), "", 1.0, "complete")
    assert trial_words(two) == "trial 0 (sampler): value 0.1000, 0.2500, 1.0 s"
