import pytest

from eesearch.reporting.markdown import markdown_report
from eesearch.reporting.render import FILES, render


@pytest.mark.parametrize(
    ("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("md", b"# cifar10")]
)
def test_every_kind_is_what_its_name_says_and_the_same_every_time(answers, form, start):
    one = answers.model_copy(update={"devices": answers.devices[:1]})
    first = render(one, form)
    assert first.startswith(start)
    assert render(one, form) == first
    assert FILES[form].endswith(f".{form}")


def test_markdown_is_utf_8(answers):
    assert render(answers, "md").decode() == markdown_report(answers)
