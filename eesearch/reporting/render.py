"""A run's answers as a file of any kind but the page, which `reporting.html` makes."""

from __future__ import annotations

from typing import Literal

from eesearch.reporting.figures import draw_front, figure_bytes
from eesearch.reporting.markdown import markdown_report
from eesearch.study.answers import Answers

FILES: dict[str, str] = {"png": "front.png", "svg": "front.svg", "pdf": "front.pdf", "md": "report.md"}
"""What the file of each kind is called in the run directory."""


def render(answers: Answers, form: Literal["png", "svg", "pdf", "md"]) -> bytes:
    """The fronts as a picture, or the report as GitHub's Markdown; the same answers give the same bytes."""
    if form == "md":
        return markdown_report(answers).encode()
    return figure_bytes(draw_front(answers), form)
