import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from eesearch.core.errors import EesearchError, InputError, RunError
from eesearch.core.registry import EXPORTERS
from eesearch.exporters import formats
from eesearch.exporters.formats import Exporter, export, near_threshold
from eesearch.study.config import ExportedConfig


@pytest.fixture
def chosen(make_chosen, monkeypatch):
    """What every selection of every run means here."""
    made = make_chosen()
    monkeypatch.setattr(formats, "choose", lambda run, selection, check, naive: made)
    return made


@pytest.fixture
def registered(monkeypatch):
    """Register a format for one test."""

    def register(write, reload=None):
        len(EXPORTERS)  # the built-in ones are there
        monkeypatch.setitem(EXPORTERS._entries, "mine", Exporter(write, extra="", about="a test", reload=reload))

    return register


def write_word(chosen, path):
    (path / "below").mkdir()
    (path / "below" / "word.txt").write_text("word")


def answers_as(chosen, *, wrong=0):
    """Reloads something that answers as the network does, but for the first few samples."""

    def reload(path):
        assert (path / "below" / "word.txt").is_file()

        def says(samples):
            own = chosen.answers(samples)
            answer = own.answer.copy()
            answer[:wrong] = (answer[:wrong] + 1) % 10
            return answer, own.exit

        return says

    return reload


def test_the_folder_is_there_once_it_was_compared(chosen, registered, tmp_path):
    registered(write_word, answers_as(chosen))
    done = export(None, "knee", "mine", tmp_path / "new" / "out", check=40)
    assert done.files == ("below/word.txt",)
    assert (done.checked, done.differing) == (40, 0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert (tmp_path / "new" / "out").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_is_taken(chosen, registered, tmp_path):
    registered(write_word)
    (tmp_path / "out").mkdir()
    assert export(None, "knee", "mine", tmp_path / "out").checked == 0
    assert (tmp_path / "out" / "below").is_dir()


def test_nothing_is_overwritten(chosen, registered, tmp_path):
    registered(write_word)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    for name in ("file", "full"):
        with pytest.raises(RunError, match="is there already; expected a folder that does not exist, or an empty one"):
            export(None, "knee", "mine", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_another_answer_is_refused_and_nothing_is_left(chosen, registered, tmp_path):
    registered(write_word, answers_as(chosen, wrong=3))
    with pytest.raises(EesearchError, match="the exported mine does not do what the network does; got 3 of 64 samples"):
        export(None, "knee", "mine", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_writer_that_fails_leaves_nothing(chosen, registered, tmp_path):
    def write(chosen, path):
        write_word(chosen, path)
        raise InputError("no")

    registered(write)
    with pytest.raises(InputError, match="no"):
        export(None, "knee", "mine", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(InputError, match=r"there is no export format 'tflite'; expected one of config, .*torch"):
        export(None, "knee", "tflite", tmp_path / "out")


def test_scores_near_a_threshold_are_not_compared():
    chosen = SimpleNamespace(thresholds=(0.5, float("inf"), float("-inf")))
    scores = np.array([[0.5 + 2e-4, 0.5 - 5e-5, 0.5], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]])
    assert near_threshold(chosen, scores).tolist() == [False, True, True]


def test_config_writes_both_forms(chosen, tmp_path):
    done = export(None, "knee", "config", tmp_path / "out")
    assert done.files == ("config.json", "config.yaml")
    one, two = (ExportedConfig.load(tmp_path / "out" / name) for name in done.files)
    assert one == two == dataclasses.replace(chosen, config=one).config
