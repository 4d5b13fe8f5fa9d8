"""The command line in this process."""

import yaml
from typer.testing import CliRunner

from eesearch.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def study_file(path, fields):
    file = path / "study.yaml"
    file.write_text(yaml.safe_dump(fields))
    return file


def refused(result, *words):
    """Exit code 2, one error, no traceback."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output, result.output
