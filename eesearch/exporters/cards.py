"""The README.md of exported folders."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from eesearch.exporters.chosen import Chosen

STOPS = "stops.md.jinja"
"""The table of stops, part of all."""


def card(template: str, chosen: Chosen, **more: Any) -> str:
    """Fill in a README.

    Args:
        template: Name of a file beside this module.
        chosen: What is exported.
        more: What else the template reads.
    """
    folder = files("eesearch.exporters")
    texts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in (template, STOPS)}
    environment = Environment(
        loader=DictLoader(texts), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    return environment.get_template(template).render(chosen=chosen, config=chosen.config, **more)
