import io
import json

import pytest
from rich.console import Console

from eesearch.core.errors import CostError
from eesearch.costs.differences import compare_networks, compare_profiles
from eesearch.costs.profile import save_profile
from eesearch.reporting.profiles import (
    difference_csv,
    difference_json,
    difference_notes,
    difference_table,
    find_profiles,
)
from eesearch.study.members import join_profiles
from eesearch.study.rundir import RunDir
from tests.unit.costs.test_differences import MACS, made


@pytest.fixture
def difference():
    here = made("x", (1.0, 2.0, 3.0, 4.0), (0.1, 0.4, 1.5))
    return compare_profiles(here, made("[red]y", (10.0, 20.0, 30.0, 40.0), (4.0, 0.5, 0.3)))


def test_profiles_are_found_by_file_and_by_run_and_device(tmp_path):
    save_profile(made("cpu:eager:t1:b1", MACS, ()), tmp_path / "pi.json")
    run = RunDir(tmp_path / "runs" / "x@y")
    save_profile(made("cpu:eager:t1:b1", MACS, ()), run.profile_file("cpu:eager:t1:b1"))
    assert find_profiles(str(tmp_path / "pi.json"))[""].device == "pi.json"
    assert find_profiles(f"{run.path}@cpu:eager:t1:b1")[""].device == "cpu:eager:t1:b1"
    with pytest.raises(CostError, match="has no profile of macs; expected one of cpu-eager-t1-b1"):
        find_profiles(f"{run.path}@macs")
    with pytest.raises(CostError, match=r"names no profile; expected the path of a profile \(.json\), or RUN@DEVICE"):
        find_profiles("digits")
    with pytest.raises(CostError, match=r"none\.json cannot be read"):
        find_profiles(str(tmp_path / "none.json"))


def test_a_device_is_no_path(tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "run" / "profiles").mkdir(parents=True)
    with pytest.raises(CostError, match="has no profile of"):
        find_profiles(f"{tmp_path / 'run'}@../../secret")


def pair(device, *names):
    members = {name: made(device, (3.0, 4.0), (0.1,), cuts=(f"{name}/a",), macs=(3.0, 4.0)) for name in names}
    return join_profiles(device, members, names[0])


def test_profiles_of_several_networks_are_found_by_network(tmp_path):
    there = pair("cpu:eager:t1:b1", "small", "large")
    save_profile(there, tmp_path / "pi.json")
    run = RunDir(tmp_path / "run")
    for name in ("small", "other"):
        kept = pair("cpu:eager:t1:b1", name).members[name]
        save_profile(kept, run.profile_file(f"cpu:eager:t1:b1@{name}"))
        save_profile(kept.model_copy(update={"latency": None}), run.profile_file(f"macs@{name}"))
    here = find_profiles(f"{run.path}@cpu:eager:t1:b1")
    assert {name: each.device for name, each in here.items()} == dict.fromkeys(("small", "other"), "cpu:eager:t1:b1")
    compared, left_out = compare_networks(here, find_profiles(str(tmp_path / "pi.json")))
    assert (list(compared), left_out) == (["small"], ("large", "other"))
    assert difference_csv(compared).splitlines()[1].startswith("small/a,")
    assert json.loads(difference_json(compared))["networks"].keys() == {"small"}
    with pytest.raises(CostError, match="no profile of gpu; expected one of cpu-eager-t1-b1, macs"):
        find_profiles(f"{run.path}@gpu")
    alone = {"": made("x", MACS, ())}
    with pytest.raises(CostError, match="no network in common; got small, other and a network alone"):
        compare_networks({name: here[name] for name in ("small", "other")}, alone)


def test_table_has_a_row_per_cut_and_shows_names_as_they_are(difference):
    console = Console(file=io.StringIO(), width=110)
    console.print(difference_table(difference))
    shown = console.file.getvalue()
    assert "[red]y" in shown
    assert "25.0% / 25.0%" in shown
    assert "never / 3.0%" in shown
    assert "1 / 3 *" in shown


def test_notes_tell_pairs_and_what_was_left_out(difference):
    notes = "\n".join(difference_notes(difference))
    assert "Change places in the cost of head and decision: a and c (92%), a and b (75%), b and c (40%)." in notes
    assert "Change places in the cost of leaving there: none." in notes
    assert "Spearman's rank correlation: prefixes 1.00" in notes
    assert "Not compared" not in notes


def test_csv_and_json_hold_the_same_figures(difference):
    head, first, *_ = difference_csv({"": difference}).splitlines()
    assert head.startswith("cut,prefix_a,prefix_b,exit_a,exit_b,leaving_a,leaving_b,pays_a,pays_b,rank_pays_a")
    assert first.startswith("a,0.25,0.25,0.025,0.1,")
    told = json.loads(difference_json({"": difference}))
    assert told["cuts"][2]["here"]["pays"] is None
    assert told["swaps"][0].keys() == {"by", "first", "second", "gap"}
    assert told["verdict"] == difference.verdict()
