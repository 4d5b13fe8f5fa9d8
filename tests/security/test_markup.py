"""Strings of foreign origin stay text, wherever something is written that others render or run.

tests/integration/test_report.py opens a page of hostile strings in a real browser.
"""

import ast
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from eesearch.core.design import ExitId
from eesearch.core.errors import StoreError
from eesearch.core.policy import Fit
from eesearch.exporters.torch_folder import MODEL, load_module
from eesearch.reporting.html import render_html
from eesearch.reporting.markdown import markdown_report
from eesearch.reporting.render import render
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir

MARKUP = "</script></title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>&lt;"
NAMES = ("study", "device", "class", "file", "error", "origin", "exit", "phase", "data", "method", "seed")


@pytest.fixture(scope="module")
def hostile(small):
    """Answers of a real run in which every kind of string attacks, each marked by its kind."""
    text = (small / "front.json").read_text()
    fields = json.loads(text)
    evil = {name: f"{name}{MARKUP}" for name in NAMES}
    fields["study"] = evil["study"]
    fields["class_names"] = [evil["class"]] * 3
    fields["data"] |= {evil["data"]: evil["data"]}
    fields["phases"] |= {evil["phase"]: 1.0}
    for trial in fields["trials"]:
        trial |= {"origin": evil["origin"], "error": evil["error"], "exits": [evil["exit"]]}
    for device in fields["devices"]:
        old = device["device"]
        device["device"] = evil["device"]
        device["noisy"], device["skipped"] = [evil["exit"]], [evil["exit"]]
        for layer in device["layers"]:
            layer["name"] = evil["method"]
        for seed in device["seeds"]:
            seed["rule"] = evil["seed"]
        assert old == "macs"
    cut = json.loads(text)["devices"][0]["points"][0]["cal"]["policy"]["stops"][0]["exit"]["cut"]
    made = json.dumps(fields).replace(json.dumps(cut), json.dumps(evil["exit"]))
    return type(Run.load(small).answers).model_validate_json(made)


class Page(HTMLParser):
    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes = [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]


def without_payloads(source):
    """The page without its libraries and data, which are base64 or our own files."""
    return re.sub(r"(<script[^>]*>)[^<]*", r"\1", source)


def test_in_the_page(hostile, small):
    plain = Page(without_payloads(render_html(Run.load(small).answers, run="small")))
    page = Page(without_payloads(render_html(hostile, run=f"file{MARKUP}")))
    assert page.tags.count("script") == plain.tags.count("script")
    assert page.tags.count("img") == plain.tags.count("img")
    assert {name for name in page.attributes if name.startswith("on")} == set()
    assert "alert(1)" in render_html(hostile), "they are told, as text"


def test_in_the_notebook(hostile, small):
    page = Page(notebook_page(hostile, small))
    assert {"script", "img", "svg"}.isdisjoint(page.tags)


def notebook_page(hostile, small):
    from eesearch.notebook import Run as Shown

    return Shown(RunDir(small), hostile)._repr_html_()


def test_in_markdown(hostile):
    text = markdown_report(hostile)
    assert not re.search(r"(?<!\\)<(script|img|svg|/)", text)
    assert r"\<script" in text


@pytest.mark.filterwarnings("ignore:constrained_layout:UserWarning")  # such names leave no room for the axes
def test_in_pictures(hostile):
    root = ElementTree.fromstring(render(hostile, "svg"))
    kinds = {element.tag.rpartition("}")[2].lower() for element in root.iter()}
    assert {"script", "img", "image", "foreignobject", "a"}.isdisjoint(kinds)
    assert not [name for element in root.iter() for name in element.attrib if name.lower().startswith("on")]
    assert not re.search(rb"/(JavaScript|JS|URI|Launch)\b", render(hostile, "pdf"))
    assert render(hostile, "png").startswith(b"\x89PNG")


NOBODY = np.zeros(0, np.int16)
CODE = 'x"""\n\nimport os\nos.mkdir("harmed")\n"""\\"\n\r# {{ 7*7 }} \u2028'


def test_in_the_python_of_an_exported_folder(run, cli, tmp_path, monkeypatch):
    """Names of classes, run and study go into strings and comments, and stay there."""
    monkeypatch.chdir(tmp_path)
    there = run.rename(run.with_name('run"""; import os; os.mkdir("harmed") #'))
    fields = json.loads((there / "front.json").read_text())
    fields["class_names"] = [CODE, "b", "c"]
    fields["devices"][0]["device"] = CODE
    (there / "front.json").write_text(json.dumps(fields))
    done = cli("export", there, "--to", "torch", "--pick", "point=0", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "harmed").exists()
    source = (tmp_path / "out" / MODEL).read_text()
    ast.parse(source)
    assert load_module(tmp_path / "out" / MODEL).CLASS_NAMES == [CODE, "b", "c"]
    assert not (tmp_path / "harmed").exists()


def test_tiers_links_and_kinds_of_fits_become_code_only_if_they_are_names():
    for part in ("tier", "link"):
        with pytest.raises(ValidationError):
            ExitId(network="n", cut="c", head="h", **{part: CODE})
    assert ExitId(network="n", cut="c", head="h", tier="edge-1", link="8bit@a.act-conv+bn/b c").tier == "edge-1"
    fit = Fit("temperature", (ExitId(network="n", cut="c", head="h"),), np.ones((1, 1, 1), np.float32), NOBODY)
    arrays, facts = fit.arrays()
    with pytest.raises(StoreError, match="a fit of no kind"):
        Fit.from_arrays(arrays, facts | {"kind": CODE})
    with pytest.raises(StoreError, match="has exits that are none"):
        Fit.from_arrays(
            arrays, facts | {"exits": json.dumps([{"network": "n", "cut": "c", "head": "h", "tier": CODE}])}
        )


def test_a_cut_that_is_code_is_no_cut(run, cli, tmp_path, monkeypatch):
    """Names of stops go into comments: they are those of the network's own modules, or nothing is written."""
    monkeypatch.chdir(tmp_path)
    text = (run / "front.json").read_text()
    cut = json.loads(text)["devices"][0]["points"][0]["cal"]["policy"]["stops"][0]["exit"]["cut"]
    (run / "front.json").write_text(text.replace(json.dumps(cut), json.dumps(CODE)))
    done = cli("export", run, "--to", "torch", "--pick", "point=0", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "harmed").exists()


def test_in_the_command_s_tables(hostile, run, cli):
    """Rich reads markup in square brackets."""
    fields = json.loads((run / "front.json").read_text())
    fields["devices"][0]["device"] = "[red]x[/red] [link=http://evil]y[/link]"
    fields["study"] = "[bold]z"
    (run / "front.json").write_text(json.dumps(fields))
    for verb in (["front", run], ["compare", run, run]):
        done = cli(*verb)
        assert done.exit_code == 0, done.output
        assert "[link=http" in done.output.replace("\n", "")


def test_in_files_that_yaml_and_csv_readers_read(run, cli, tmp_path):
    fields = json.loads((run / "front.json").read_text())
    fields["class_names"] = ["!!python/object/apply:os.mkdir ['harmed']", "b", "c"]
    (run / "front.json").write_text(json.dumps(fields))
    done = cli("export", run, "--to", "config", "--pick", "point=0", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    files = list((tmp_path / "out").glob("*.yaml"))
    assert files
    assert all(isinstance(yaml.safe_load(file.read_text()), dict) for file in files)
