"""A warm start brings networks along; what was made of other calibration samples is made again, or refused."""

import logging

import pytest

from eesearch.core.errors import RunError
from eesearch.study import workshop
from eesearch.study.bank_problem import BankProblem
from eesearch.study.certificates import Asked, Ledger, Query, read_ledger
from eesearch.study.materials import Given, prepare
from eesearch.study.question import Study, WarmStart
from eesearch.study.rundir import RunDir
from eesearch.training.data import make_dataset
from tests.unit.study.conftest import FIELDS, made_up


@pytest.fixture(scope="module")
def sources():
    """The same model and training split; all calibration samples, or half of them beside a certification share."""
    model, arrays = made_up(cal=160)
    half = make_dataset(arrays, certification=0.5)
    same = make_dataset({**arrays, "x_cal": half.cal.x, "y_cal": half.cal.y})
    return {"all": Given(model, make_dataset(arrays)), "share": Given(model, half), "same": Given(model, same)}


@pytest.fixture
def begun(sources, tmp_path):
    """Begins runs; a warm start names another one, or a configuration."""

    def begin(name, source, *others):
        exits = ({"cut": "2", "head": {"kind": "linear"}},)
        starts = [WarmStart(name=o, run=str(tmp_path / o), strategy="mixed", exits=exits) for o in others]
        study = Study.model_validate(FIELDS | {"warm_start": [s.model_dump() for s in starts]})
        return BankProblem(prepare(study, RunDir(tmp_path / name), given=sources[source]))

    return begin


def left(problem):
    """What a run's trial 0 left: its answer, tables and fits."""
    outcome = problem.first()
    shop, data = problem.workshop, problem.materials.dataset
    tables = [shop.table(shop.bank_design, "cal"), shop.backbone_table("cal")]
    assert {table.samples for table in tables} == {data.cal.key}
    fits = shop.scoring(shop.bank_design, *problem.space.scorings[0]).fits
    fronts = [problem.device_front(shop.bank_design, p).points for p in problem.materials.profiles]
    return outcome.values, [fit.key for fit in fits], fronts, [table.logits.tolist() for table in tables]


def test_tables_fits_and_fronts_of_other_calibration_samples_are_made_again(begun, tmp_path, monkeypatch):
    first = left(begun("first", "all"))
    alone = left(begun("alone", "same"))
    trained = []
    monkeypatch.setattr(workshop, "train_bank", lambda *a, **o: trained.append(a))
    warm = begun("warm", "same", "first")
    assert left(warm) == alone != first
    assert trained == [], "the networks are the same"
    kept = RunDir(tmp_path / "warm").store.get("table", f"{warm.workshop.bank_design.key}-cal")
    assert kept[1]["samples"] == warm.materials.dataset.cal.key


def test_designs_that_were_chosen_on_the_certification_share_are_refused(begun):
    begun("first", "all")
    with pytest.raises(RunError, match="was chosen on other calibration samples, and the certification share may"):
        begun("warm", "share", "first")


def test_designs_that_were_chosen_on_the_same_samples_are_welcome(begun, caplog):
    begun("first", "share")
    begun("warm", "share", "first")
    assert "nobody knows" not in caplog.text


def test_what_was_asked_of_the_share_there_counts_here(begun, tmp_path):
    begun("first", "share")
    query = Query(source="s", device="macs", front="f", max_drop=0.01, confidence=0.9)
    asked = Asked(query=query, when="2026-01-01T00:00:00+00:00", axis="macs", samples=9, candidates=())
    ledger = Ledger(asked=(asked,))
    (tmp_path / "first" / "certificates.json").write_text(ledger.model_dump_json())
    begun("warm", "share", "first")
    assert read_ledger(RunDir(tmp_path / "warm")) == ledger


def test_without_a_share_any_run_is_welcome(begun):
    begun("first", "all")
    assert begun("warm", "same", "first").materials.dataset.cert is None


def test_a_configuration_does_not_tell_where_it_was_chosen(begun, caplog):
    with caplog.at_level(logging.WARNING):
        begun("warm", "share", "gone")
    assert "nobody knows on which samples the warm start gone was chosen" in caplog.text
