import json

import pytest
from rich.console import Console

from eesearch.core.errors import InputError, RunError
from eesearch.core.front import MAX_DROP
from eesearch.reporting.compare import compare_runs, compared_cautions, compared_tables
from eesearch.study.rundir import RunDir


@pytest.fixture
def write(tmp_path):
    """Write answers as a run of that name."""

    def made(name, answers, network="n1"):
        run = RunDir(tmp_path / name)
        run.path.mkdir(parents=True)
        run.study_file.write_text("name: made up\n")
        (run.path / "inputs.json").write_text(json.dumps({"network": network}))
        (run.path / "front.json").write_text(answers.model_dump_json())
        return run

    return made


def with_data(answers, **hashes):
    known = {"train": "t", "cal": "c", "test": "e"} | hashes
    return answers.model_copy(update={"data": {"hashes": known}})


def dearer(answers, factor):
    """The same answers where everything costs `factor` times as much, the backbones too."""

    def scaled(value):
        if isinstance(value, dict):
            return {k: v * factor if k in ("mean", "p95", "worst") else scaled(v) for k, v in value.items()}
        return [scaled(v) for v in value] if isinstance(value, list) else value

    return type(answers).model_validate(scaled(json.loads(answers.model_dump_json())))


def printed(renderable, width=110):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_run_beside_itself_is_no_better(write, answers):
    compared = compare_runs([write("a", with_data(answers)), write("b", with_data(answers))])
    assert not compared.cautions
    assert [d.device for d in compared.devices] == ["macs", "cpu:eager:t1:b1"]
    for device in compared.devices:
        one, two = device.runs
        assert (one.name, two.name) == ("a", "b")
        assert (one.hypervolume, one.hypervolume_cal) == (two.hypervolume, two.hypervolume_cal)
        assert not device.cautions
        assert one.hypervolume_cal == pytest.approx(one.device.front().hypervolume())


def test_all_runs_are_measured_against_the_first_run_s_backbone(write, answers):
    one, two = answers, dearer(answers, 1.2)
    compared = compare_runs([write("a", with_data(one)), write("b", with_data(two))])
    (device, _) = compared.devices
    assert device.cost == one.devices[0].backbone.test.costs["macs"].mean
    first, second = device.runs
    # What costs 1.2 times as much dominates the strips between its steps, up to the first backbone's cost.
    error = one.devices[0].backbone.cal.error + MAX_DROP
    steps = [(p.cal.error, 1.2 * p.cal.costs["macs"].mean / device.cost_cal) for p in one.devices[0].points]
    steps = [(e, c) for e, c in steps if e < error]
    ends = [min(c, 1.0) for _, c in steps[1:]] + [1.0]
    area = sum((error - e) * max(end - c, 0.0) for (e, c), end in zip(steps, ends, strict=True)) / error
    assert second.hypervolume_cal == pytest.approx(area)
    assert second.hypervolume < first.hypervolume
    assert "the backbones cost differently: a: 125.5 M MACs; b: 150.6 M MACs" in device.cautions[0]
    swapped = compare_runs([RunDir(first_path) for first_path in (write("c", two).path, write("d", one).path)])
    assert swapped.devices[0].cost == pytest.approx(1.2 * device.cost)


def test_what_differs_is_said(write, answers):
    compared = compare_runs(
        [write("a", with_data(answers)), write("b", with_data(answers, test="other"), network="n2")]
    )
    text = printed(compared_cautions(compared))
    assert "caution: the test data differ: their accuracies are of other samples." in text
    assert "caution: the backbones differ" in text
    assert "train data" not in text


def test_devices_that_not_all_have_are_left_out_and_named(write, answers):
    fewer = answers.model_copy(update={"devices": answers.devices[:1]})
    compared = compare_runs([write("a", answers), write("b", fewer)])
    assert [d.device for d in compared.devices] == ["macs"]
    assert compared.alone == ("cpu:eager:t1:b1",)
    assert "not all runs have it: cpu:eager:t1:b1" in printed(compared_cautions(compared))


def test_runs_with_nothing_in_common_are_an_error(write, answers):
    parts = [answers.model_copy(update={"devices": (device,)}) for device in answers.devices]
    runs = [write(name, part) for name, part in zip("ab", parts, strict=True)]
    with pytest.raises(InputError, match=r"no device in common; got a: macs; b: cpu:eager:t1:b1\. Search with"):
        compare_runs(runs)


def test_the_same_name_on_another_axis_is_another_device(write, answers):
    renamed = answers.devices[1].model_copy(update={"device": "macs"})
    runs = [write("a", answers), write("b", answers.model_copy(update={"devices": (renamed,)}))]
    with pytest.raises(InputError, match="no device in common"):
        compare_runs(runs)


def test_one_run_is_no_comparison_and_a_missing_one_is_named(write, answers, tmp_path):
    run = write("a", answers)
    with pytest.raises(InputError, match="needs two runs; got 1"):
        compare_runs([run])
    with pytest.raises(RunError, match="nowhere holds no run"):
        compare_runs([run, RunDir(tmp_path / "nowhere")])


def test_runs_of_one_name_are_called_by_their_paths(write, answers):
    runs = [write("x/digits", answers), write("y/digits", answers)]
    names = [run.name for run in compare_runs(runs).devices[0].runs]
    assert names == [str(run.path) for run in runs]
    twice = [run.name for run in compare_runs([runs[0], runs[0]]).devices[0].runs]
    assert len(set(twice)) == 2


def test_the_table_fits_and_says_what_it_is_measured_against(write, answers):
    compared = compare_runs([write("a", answers), write("b" * 60, answers)])
    macs, latency = map(printed, compared_tables(compared))
    assert max(map(len, macs.splitlines())) <= 110
    assert "0.697 (+0.06)" in macs
    assert "0.548 (+1.78)" in macs
    assert "7 min 43 s" in macs
    assert "up to the cost of a's backbone (125.5 M MACs)" in " ".join(macs.split())
    assert "6.71 ms" in latency


def test_rows_for_a_spreadsheet(write, answers):
    frame = compare_runs([write("a", answers), write("b", answers)]).to_pandas()
    assert list(frame["run"]) == ["a", "b", "a", "b"]
    assert list(frame["device"]) == ["macs"] * 2 + ["cpu:eager:t1:b1"] * 2
    row = frame.iloc[0]
    assert row["ratio_0"] == pytest.approx(0.697)
    assert row["drop_0"] == pytest.approx(0.0006)
    assert row["ratio_2"] == pytest.approx(0.548)
    assert row["seconds"] == pytest.approx(463.3)
    assert row["backbone_cost"] == 125.49e6


def test_a_run_without_points_and_one_that_loses_too_much(write, answers):
    bare = answers.model_copy(update={"devices": (answers.devices[0].model_copy(update={"points": ()}),)})
    compared = compare_runs([write("a", answers), write("b", bare)])
    _, empty = compared.devices[0].runs
    assert (empty.hypervolume, empty.hypervolume_cal) == (0.0, 0.0)
    assert compared.to_pandas()["ratio_0"].isna().tolist() == [False, True]
    assert " - " in printed(compared_tables(compared)[0])


def test_foreign_names_are_no_markup(write, hostile):
    compared = compare_runs([write("[red]", hostile), write("b", hostile)])
    assert "[red]" in printed(compared_tables(compared)[0], width=300)
    assert "[red]" in printed(compared_cautions(compared)) or not compared.cautions
