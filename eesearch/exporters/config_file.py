"""Format `config`: the chosen point as JSON and as YAML, for `eesearch train` and `eesearch search --warm-start`."""

from __future__ import annotations

from pathlib import Path

from eesearch.core.registry import EXPORTERS
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.study.config import ExportedConfig


def write_config(chosen: Chosen, path: Path) -> None:
    """Write `config.json` and `config.yaml`, and read both again.

    Raises:
        StudyError: what was written is not what was meant.
    """
    for form in ("json", "yaml"):
        file = path / f"config.{form}"
        file.write_text(chosen.config.to_text(form), encoding="utf-8")
        ExportedConfig.load(file)


EXPORTERS.register("config")(
    Exporter(write_config, extra="", about="what was chosen, as JSON and YAML: to train it, or to search from it")
)
