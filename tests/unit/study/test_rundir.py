import numpy as np
import pytest

from eesearch.core.errors import RunError
from eesearch.study.files import resolve
from eesearch.study.materials import prepare
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir, open_run
from eesearch.study.workers import working
from tests.unit.study.conftest import FIELDS as TINY
from tests.unit.study.conftest import made_up

FIELDS = {"name": "mine", "backbone": {"model": "pkg:fn"}, "data": {"source": "pkg:data"}}


def study(**changes):
    return Study.model_validate(FIELDS | changes)


def test_a_run_directory_remembers_its_study(tmp_path):
    run = open_run(tmp_path / "run", study())
    assert run.study() == study()
    assert open_run(tmp_path / "run", study(budget={"trials": 5})).study().budget.trials == 5


def test_another_study_is_refused_with_the_differences(tmp_path):
    open_run(tmp_path / "run", study())
    with pytest.raises(RunError) as caught:
        open_run(tmp_path / "run", study(name="other", training={"epochs": 3}))
    assert "name: 'mine' there, 'other' now" in str(caught.value)
    assert "training.epochs: 10 there, 3 now" in str(caught.value)
    assert RunDir(tmp_path / "run").study().name == "mine"


@pytest.mark.parametrize("drop", ["25%", "30%", "100%"])
def test_a_large_drop_is_read_back(drop, tmp_path):
    asked = study(objectives={"max_drop": drop})
    assert open_run(tmp_path / "run", asked).study() == asked
    assert open_run(tmp_path / "run", asked).study() == asked


@pytest.fixture
def projects(tmp_path, monkeypatch):
    """Makes the study of a project whose data lie in its folder, as the command line reads it there."""

    def project(name, cal=40):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "mine.npz", **made_up(cal)[1])
        monkeypatch.chdir(folder)
        network = {"model": "eesearch.nets.zoo:mlp", "args": {"features": 6, "hidden": [4, 4], "classes": 3}}
        fields = TINY | {"backbone": network, "data": {"source": "mine.npz"}}
        fields["training"] = {"epochs": 1, **TINY["training"]}
        return resolve(fields, (), folder / "study.yaml")

    return project


def test_a_run_goes_on_where_its_project_was_moved(projects, tmp_path):
    first, second = projects("laptop"), projects("cluster")
    prepare(first, open_run(tmp_path / "run", first))
    assert first.data.source != second.data.source
    run = open_run(tmp_path / "run", second)
    prepare(second, run)
    assert run.study() == second, "the files that are there now"


def test_a_file_of_the_same_name_with_other_contents_is_refused_and_not_remembered(projects, tmp_path):
    first, other = projects("laptop"), projects("cluster", cal=39)
    prepare(first, open_run(tmp_path / "run", first))
    run = open_run(tmp_path / "run", other)
    with pytest.raises(RunError, match="begun with another cal split"):
        prepare(other, run)
    assert run.study() == first


def test_what_files_held_must_be_known_where_they_are_elsewhere(projects, tmp_path):
    first, second = projects("laptop"), projects("cluster")
    prepare(first, open_run(tmp_path / "run", first))
    (tmp_path / "run" / "inputs.json").write_text("{")
    with pytest.raises(RunError, match="does not say what its files held"):
        open_run(tmp_path / "run", second)
    assert open_run(tmp_path / "run", first).study() == first


def test_going_on_elsewhere_takes_what_may_change_at_once_and_leaves_it_to_others_then(projects, tmp_path):
    first, second = projects("laptop"), projects("cluster")
    prepare(first, open_run(tmp_path / "run", first))
    budget = second.budget.model_copy(update={"trials": 7})
    run = open_run(tmp_path / "run", second.model_copy(update={"budget": budget}))
    assert run.study() == first.model_copy(update={"budget": budget})
    more = first.model_copy(update={"budget": budget.model_copy(update={"trials": 50})})
    open_run(tmp_path / "run", more)  # somebody else, who comes while the data are loaded
    prepare(second.model_copy(update={"budget": budget}), run)
    assert run.study() == second.model_copy(update={"budget": more.budget})


def test_fresh_renames_and_deletes_nothing(tmp_path):
    open_run(tmp_path / "run", study())
    (tmp_path / "run" / "front.csv").write_text("old answers")
    for _ in range(2):
        open_run(tmp_path / "run", study(name="other"), fresh=True)
    assert (tmp_path / "run.old-1" / "front.csv").read_text() == "old answers"
    assert (tmp_path / "run.old-2" / "study.yaml").exists()
    assert not (tmp_path / "run" / "front.csv").exists()


def test_fresh_does_not_forget_what_the_samples_were_asked(tmp_path):
    open_run(tmp_path / "run", study())
    (tmp_path / "run" / "certificates.json").write_text("a ledger")
    open_run(tmp_path / "run", study(name="other"), fresh=True)
    assert (tmp_path / "run" / "certificates.json").read_text() == "a ledger"
    assert (tmp_path / "run.old-1" / "certificates.json").read_text() == "a ledger"
    (tmp_path / "run" / "study.yaml").unlink()  # as if it had been killed between the two
    open_run(tmp_path / "run", study())
    assert (tmp_path / "run" / "certificates.json").read_text() == "a ledger"


def test_a_directory_with_other_things_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("my work")
    with pytest.raises(RunError, match="not empty"):
        open_run(tmp_path, study())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        open_run(tmp_path / "file" / "run", study())


def test_while_somebody_searches_it_cannot_be_renamed_or_asked_something_else(tmp_path):
    run = open_run(tmp_path / "run", study())
    with working(run.path):
        assert open_run(tmp_path / "run", study(budget={"trials": 5})) == run, "others join"
        with pytest.raises(RunError, match=r"a search is running in .*got --fresh"):
            open_run(tmp_path / "run", study(), fresh=True)
        with pytest.raises(RunError, match=r"running in .* with other devices"):
            open_run(tmp_path / "run", study(devices=["macs"]))
    assert open_run(tmp_path / "run", study(devices=["macs"])).study().devices == ("macs",)


def test_a_run_knows_who_it_is(tmp_path):
    run = open_run(tmp_path / "run", study())
    assert run.identity() == RunDir(tmp_path / "run").identity()
    assert open_run(tmp_path / "other", study()).identity().id != run.identity().id
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json is damaged"):
        run.identity()


def test_seconds_by_phase_add_up_over_searches(tmp_path):
    run = RunDir(tmp_path)
    assert run.add_phases({"load": 1.0}) == {"load": 1.0}
    assert run.add_phases({"load": 2.0, "solve": 0.5}) == {"load": 3.0, "solve": 0.5}
    (tmp_path / "phases.json").write_text("[1, 2")
    assert run.add_phases({"load": 1.0}) == {"load": 1.0}


def test_answers_that_are_not_there_or_damaged(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        RunDir(tmp_path).answers()
    run = open_run(tmp_path / "run", study())
    with pytest.raises(RunError, match="no answers yet"):
        run.answers()
    (run.path / "front.json").write_text('{"version": 1, "stu')
    with pytest.raises(RunError, match="damaged"):
        run.answers()


def test_what_a_crash_left_of_caches_goes_when_nobody_works(tmp_path):
    run = open_run(tmp_path / "run", study())
    left, linked = run.cache / "tmp1234", tmp_path / "mine"
    run.cache.mkdir()
    left.write_bytes(b"0")
    with working(run.path):
        open_run(run.path, study())
        assert left.exists(), "somebody may read it"
    linked.write_bytes(b"0")
    (run.cache / "link").symlink_to(linked)
    open_run(run.path, study())
    assert [file.name for file in run.cache.iterdir()] == ["link"]
    assert linked.exists()
