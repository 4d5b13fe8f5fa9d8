"""The command line: the verbs of `eesearch.api`, arguments and output; no logic of its own.

Exit codes: 0 done, 2 the user's input, 1 ours, 130 interrupted (the answers so far are written).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import eesearch.cli.begin
import eesearch.cli.certify  # verbs register themselves, in the order of `--help`
import eesearch.cli.keep
import eesearch.cli.search
import eesearch.cli.show
import eesearch.cli.take
import eesearch.cli.verify  # noqa: F401
from eesearch.cli.verbs import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line and exit."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("eesearch").setLevel(logging.INFO)
    if str(Path.cwd()) not in sys.path:  # a study may name a model that lies in this directory
        sys.path.insert(0, str(Path.cwd()))
    app()
