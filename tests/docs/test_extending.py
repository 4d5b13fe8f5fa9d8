"""The extensions of the documentation, installed as any package is: contracts, a search, an export, a profile."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from eesearch.core.registry import (
    ANSWERS,
    BACKENDS,
    CRITERIA,
    DRIVERS,
    EXPORTERS,
    HEADS,
    STRATEGIES,
)

ROOT = Path(__file__).parents[2]
REGISTRIES = {
    "HEADS": HEADS,
    "CRITERIA": CRITERIA,
    "ANSWERS": ANSWERS,
    "STRATEGIES": STRATEGIES,
    "BACKENDS": BACKENDS,
    "DRIVERS": DRIVERS,
    "EXPORTERS": EXPORTERS,
}


@pytest.fixture(scope="module")
def installed(blocks, tmp_path_factory):
    """A folder with the modules of the page and what pip would write about their package."""
    folder = tmp_path_factory.mktemp("extensions")
    for block in blocks("extending"):
        if block.title:
            (folder / block.title).write_text(block.text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


def python(installed, *arguments, folder):
    """Run Python where the package is installed."""
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_table_of_registries_is_true(pages):
    for name, registry in REGISTRIES.items():
        (row,) = (line for line in pages["extending"].splitlines() if line.startswith(f"| `{name}` |"))
        group, shipped = row.split("|")[2].strip(), row.split("|")[4].split()
        assert group == f"`{registry._group}`"
        assert {word.strip("`") for word in shipped} == set(registry)


@pytest.mark.slow
def test_the_examples_keep_the_contracts(blocks, installed):
    (command,) = (c for block in blocks("extending") for c in block.commands if c.startswith("python -m pytest"))
    names = "collision or two_phase or channels_last or ChannelsLast or normed or unknown"
    files = [word for word in command.split() if word.endswith(".py")]
    assert all((ROOT / file).is_file() for file in files)
    said = python(
        installed,
        *("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", ROOT / "pyproject.toml"),
        *(
            *files,
            installed / "test_normed_head.py",
            installed / "test_two_phase.py",
            installed / "test_channels_last.py",
            "-k",
            names,
        ),
        folder=ROOT,
    )
    assert "passed" in said


@pytest.mark.slow
def test_a_study_uses_all_of_them(blocks, installed):
    commands = [c for block in blocks("extending") for c in block.commands if c.startswith("eesearch ")]
    assert [c.split()[1] for c in commands] == ["search", "export", "profile"]
    verbs = [command.split()[1:] for command in commands]
    python(
        installed,
        "-c",
        f"from eesearch.cli import app\nfor verb in {verbs}: app(verb, standalone_mode=False)",
        folder=installed,
    )
    assert ">=" in (installed / "card" / "card.txt").read_text()
    front = (installed / "runs/extended/front.csv").read_text()
    assert "normed-mixed2" in front
    assert "collision" in front
    answers = json.loads((installed / "runs/extended/front.json").read_text())
    assert [trial["strategy"] for trial in answers["trials"]] == ["separate", "two_phase"]
    assert all(trial["state"] == "complete" for trial in answers["trials"])
    assert (installed / "runs/extended/profiles/cpu-channels_last-t1-b1.json").is_file()
