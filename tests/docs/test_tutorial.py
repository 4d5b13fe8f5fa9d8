"""The tutorial, block by block, as somebody would follow it."""

import contextlib
import io
import re
import shlex
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from eesearch.cli import app

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MODULES = ("digitsnet", "model", "runner")
"""Files of the tutorial that are imported by their names."""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty directory to work in, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def skeleton(text):
    """The words of an output, without its figures."""
    return set(re.findall(r"[A-Za-z_]{4,}", text))


def run_block(block, desk, namespace):
    """Run it, or write it where its title says; returns what it printed."""
    if block.title:
        (desk / block.title).write_text(block.text)
        return ""
    if block.language == "python":
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block.text, f"tutorial.md:{block.line}", "exec"), namespace)
        return said.getvalue()
    said = ""
    for command in block.commands:
        verb = shlex.split(command)
        assert verb[0] == "eesearch"
        done = CliRunner().invoke(app, verb[1:])
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception!r}"
        said += done.output
    return said


@pytest.mark.slow
def test_every_block_runs_and_prints_what_the_page_says(blocks, desk):
    namespace, said = {"__name__": "tutorial"}, ""
    for block in blocks("tutorial"):
        if block.language == "text":
            missing = skeleton(block.text) - skeleton(said) - {"above", "below", "points"}
            assert not missing, f"line {block.line}: nothing of the kind was printed: {missing} in {said}"
        else:
            said = run_block(block, desk, namespace)
    assert (namespace["answer"] == namespace["y_test"]).mean() > 0.8
    assert np.array_equal(namespace["answer"], namespace["said"].answer.numpy())
    assert (desk / "front.png").stat().st_size > 10_000
    assert (desk / "runs/digits/report.html").is_file()
    assert (desk / "runs/again/front.csv").is_file()
