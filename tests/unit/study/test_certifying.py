"""Certificates of a small run whose model and data can be loaded again: what is counted is what the networks answer."""

import numpy as np
import pytest
import yaml

from eesearch.core.costs import LatencyProfile
from eesearch.core.design import ABSTAINED
from eesearch.core.errors import DataError, InputError, PickError, RunError
from eesearch.core.paired import Paired
from eesearch.costs.profile import load_profile, save_profile
from eesearch.study.bank_problem import BankProblem
from eesearch.study.certificates import certified_point, read_ledger
from eesearch.study.certifying import certify, certify_files, to_label
from eesearch.study.compose import Composer
from eesearch.study.materials import load_backbone, load_study_data, prepare
from eesearch.study.pools import UNLABELLED, Pool
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir
from eesearch.study.trial import Finished
from tests.unit.study.conftest import FIELDS, proposal

MODEL = {"model": "eesearch.nets.zoo:mlp", "args": {"features": 6, "hidden": [8, 8, 8], "classes": 3}}
TRAINING = FIELDS["training"] | {"epochs": 12, "batch_size": 32, "lr": 0.02}
LOOSE = "20%"
"""A drop that the few samples of these tests can certify."""


def drawn(rng, count):
    y = np.arange(count) % 3
    return (rng.normal(size=(count, 6)) + 2.0 * y[:, None]).astype(np.float32), y


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    rng, arrays = np.random.default_rng(0), {}
    for name, count in (("train", 240), ("cal", 240), ("test", 60)):
        arrays[f"x_{name}"], arrays[f"y_{name}"] = drawn(rng, count)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def searched(source, tmp_path_factory):
    """Makes finished runs."""

    def search(joint=False, certification=0.5, **fields):
        path = tmp_path_factory.mktemp("runs") / "run"
        data = {"source": str(source), "certification": certification}
        own = {"name": "small", "backbone": MODEL, "data": data, "training": TRAINING}
        study, directory = Study.model_validate(FIELDS | own | fields), RunDir(path)
        problem = BankProblem(prepare(study, directory))
        directory.study_file.write_text(yaml.safe_dump(study.model_dump(mode="json")))
        finished = [Finished(0, "bank", problem.first(), "", 1.0, "complete")]
        if joint:
            finished += [Finished(1, "sampler", problem.run(proposal(problem)), "", 1.0, "complete")]
        answers = Composer(problem).answers(finished, final=False)
        directory.write_answers(answers)
        return Run.load(path)

    return search


@pytest.fixture(scope="session")
def finished(searched):
    return searched()


@pytest.fixture
def run(finished):
    """A run that nobody has asked yet."""
    (finished.directory.path / "certificates.json").unlink(missing_ok=True)
    return finished


@pytest.fixture(scope="session")
def pool():
    return Pool(*drawn(np.random.default_rng(7), 500))


def counted(run, candidate, x, y):
    """What the deployed network of a candidate and the backbone answer, really stopping early."""
    device = run.device()
    answer = run.predict(device.points[candidate.number], x).answer
    whole = run.predict(device.backbone, x).answer
    return Paired.of((answer == y) | (answer == ABSTAINED), whole == y)


def counted_on(run, candidate, cert):
    return counted(run, candidate, cert.x, cert.y)


def times_of(profile):
    """A millisecond for each multiply-add: everything else is fast."""
    heads = {cut: dict.fromkeys(names, 0.0) for cut, names in profile.macs_head.items()}
    return LatencyProfile(
        prefix_ms=profile.macs_prefix,
        head_ms=heads,
        decision_ms={"max_prob": 0.0},
        resume_ms=0.0,
        timings={},
        noise=0.0,
    )


class TestShare:
    def test_what_is_counted_is_what_the_networks_answer(self, run):
        cert = load_study_data(run.question()).cert
        asked = certify(run, LOOSE).asked
        assert (asked.query.source, asked.samples, len(cert)) == (cert.key, 120, 120)
        tested = asked.tested()
        assert len(tested) > 1
        assert [c.paired for c in tested] == [counted(run, c, cert.x, cert.y) for c in tested]

    def test_candidates_are_ordered_by_what_calibration_says(self, run):
        asked, device = certify(run, LOOSE).asked, run.device()
        assert [c.estimated for c in asked.candidates] == sorted(c.estimated for c in asked.candidates)
        assert [c.cost for c in asked.candidates] == sorted((c.cost for c in asked.candidates), reverse=True)
        for candidate in asked.candidates:
            point = device.points[candidate.number]
            assert candidate.selected.drop == pytest.approx(device.drop(point))
            assert candidate.selected.samples == 120
            assert candidate.cost < 1.0
            assert device.drop(point) < 0.2

    def test_points_that_lose_too_much_where_they_were_chosen_are_not_tested(self, run):
        device = run.device()
        strict = certify(run, "0%").asked.candidates
        lost = [device.drop(device.points[candidate.number]) for candidate in strict]
        safest = min(device.drop(p) for p in device.points if device.ratio(p) < 1.0)
        assert max(lost) < 0.0 or lost == [safest]
        assert len(strict) < len(certify(run, LOOSE).asked.candidates)

    def test_the_certified_point_can_be_picked(self, run):
        done = certify(run, LOOSE)
        assert certified_point(run.directory, run.answers, 0.2) == run.device().points[done.chosen.number]
        assert certify(run, 0.2).recorded

    def test_points_on_tiers_are_certified_as_any_others(self, searched, finished, tmp_path):
        counted = load_profile(finished.directory.profile_file("macs"))
        save_profile(counted.model_copy(update={"latency": times_of(counted)}), tmp_path / "timed.json")
        tier = {"device": str(tmp_path / "timed.json")}
        system = {
            "tiers": [{"name": "phone", "slowdown": 9.0, **tier}, {"name": "cloud", **tier}],
            "links": [{"bandwidth": 0.1, "round_trip": 0, "bits": [8]}],
            "boundaries": [counted.cuts[0]],
        }
        space = FIELDS["space"] | {"max_exits": 2}
        run = searched(devices=["chain"], systems={"chain": system}, space=space)
        cert = load_study_data(run.question()).cert
        tested = certify(run, LOOSE).asked.tested()
        links = {e.link for c in tested for e in run.device().points[c.number].cal.policy.exits}
        assert f"8bit@{counted.cuts[0]}" in links
        assert [c.paired for c in tested] == [counted_on(run, c, cert) for c in tested]

    def test_the_share_may_be_given(self, run):
        cert = load_study_data(run.question()).cert
        again = certify(run, LOOSE, share=cert)
        assert [c.paired for c in again.asked.tested()]
        with pytest.raises(RunError, match="the cert split is not the one"):
            certify(run, "30%", share=load_study_data(run.question()).cal)

    def test_tables_that_are_gone_are_made_again(self, searched, run):
        other = searched()
        for file in (other.directory.path / "store" / "table").glob("*-cal*"):
            file.unlink()
        assert certify(other, LOOSE).asked.candidates == certify(run, LOOSE).asked.candidates

    def test_a_network_that_was_trained_further_is_compared_with_the_unmodified_one(self, searched):
        trained = searched(joint=True)
        device, joint = trained.device(), trained.answers.trials[1].design
        points = tuple(trial.point for trial in device.dominated if trial.point.cal.design == joint)
        points = tuple(p for p in device.points if p.cal.design == joint) + points
        only = device.model_copy(update={"points": points, "dominated": ()})
        alone = Run(trained.directory, trained.answers.model_copy(update={"devices": (only,)}))
        cert = load_study_data(trained.question()).cert
        asked = certify(alone, LOOSE).asked
        assert asked.tested()
        assert [c.paired for c in asked.tested()] == [counted(alone, c, cert.x, cert.y) for c in asked.tested()]
        for candidate in asked.candidates:
            assert candidate.selected.drop == pytest.approx(only.drop(points[candidate.number]))

    def test_a_study_that_has_reserved_none_is_told_what_to_do(self, searched):
        none = searched(certification=None)
        with pytest.raises(DataError, match=r"reserved no samples.*data\.certification.*--pool"):
            certify(none, LOOSE)
        assert not (none.directory.path / "certificates.json").exists()


class TestPool:
    def test_labels_are_needed_where_a_tested_policy_differs_and_nowhere_else(self, run, pool):
        everything = certify(run, LOOSE, pool=pool).asked
        wanted = to_label(run, LOOSE, pool)
        device = run.device()
        whole = run.predict(device.backbone, pool.x).answer
        said = [run.predict(device.points[c.number], pool.x).answer for c in everything.candidates]
        rows = np.flatnonzero((np.array(said) != whole).any(0))
        assert wanted.rows == tuple(rows)
        assert 0 < len(rows) < 250
        few = np.full(len(pool.y), UNLABELLED)
        few[rows] = pool.y[rows]
        again = certify(run, LOOSE, pool=Pool(pool.x, few))
        assert again.recorded, "the labels that decide are the same: it is the same question"
        fresh = certify(run, "21%", pool=Pool(pool.x, few)).asked
        assert [c.paired for c in fresh.tested()] == [counted(run, c, pool.x, pool.y) for c in fresh.tested()]

    def test_the_list_is_no_question(self, run, pool):
        to_label(run, LOOSE, pool)
        assert not read_ledger(run.directory).asked

    def test_a_label_that_is_missing_is_named(self, run, pool):
        row = to_label(run, LOOSE, pool).rows[3]
        lacking = pool.y.copy()
        lacking[row] = UNLABELLED
        with pytest.raises(DataError, match=rf"1 of the .* got no label of index {row}"):
            certify(run, LOOSE, pool=Pool(pool.x, lacking))
        assert not read_ledger(run.directory).asked

    def test_pool_and_share_are_different_sources(self, run, pool):
        certify(run, LOOSE)
        assert certify(run, LOOSE, pool=pool).queries == 1

    def test_other_samples_are_refused(self, run, pool):
        with pytest.raises(DataError, match="not like those that the run was made on"):
            certify(run, LOOSE, pool=Pool(pool.x[:, :5], pool.y))
        data = load_study_data(run.question())
        for split in (data.cal, data.train, data.cert):
            with pytest.raises(DataError, match=f"the pool is the {split.name} split"):
                certify(run, LOOSE, pool=Pool(split.x, split.y))

    def test_a_single_sample_of_the_run_is_refused(self, run, pool):
        data = load_study_data(run.question())
        for split in (data.train, data.cal, data.test, data.cert):
            x = pool.x.copy()
            x[[4, 9]] = split.x[2:4]
            for ask in (certify, to_label):
                with pytest.raises(DataError, match=rf"2 samples of the {split.name} split of the run; got x\[4\]"):
                    ask(run, LOOSE, pool=Pool(x, pool.y))
        assert not read_ledger(run.directory).asked

    def test_samples_that_come_twice_are_told(self, run, pool, caplog):
        certify(run, LOOSE, pool=pool)
        assert "equal to an earlier one" not in caplog.text
        certify(run, LOOSE, pool=Pool(np.concatenate([pool.x, pool.x[:3]]), np.concatenate([pool.y, pool.y[:3]])))
        assert "3 of the 503 samples in the pool are equal to an earlier one" in caplog.text

    def test_where_the_data_are_gone_whole_splits_are_known_by_their_hashes(self, searched, pool, caplog):
        run = searched()
        data = load_study_data(run.question())
        lost = Run(run.directory, run.answers, backbone=load_backbone(run.question(), data.test.x[:2]))
        study = yaml.safe_load(run.directory.study_file.read_text())
        study["data"]["source"] = "gone.npz"
        run.directory.study_file.write_text(yaml.safe_dump(study))
        with pytest.raises(DataError, match="the pool is the test split"):
            certify(lost, LOOSE, pool=Pool(data.test.x, data.test.y))
        assert certify(lost, LOOSE, pool=pool).asked.samples == 500
        assert "its data cannot be loaded" in caplog.text


class TestLastResort:
    def test_what_is_handed_on_counts_as_right_and_needs_a_label(self, searched, pool):
        run = searched(space=FIELDS["space"] | {"last_resort": {"macs": 80.0}})
        asked = certify(run, LOOSE, pool=pool).asked
        ending = [c for c in asked.tested() if c.policy.exits[-1].is_last_resort]
        assert ending
        assert [c.paired for c in ending] == [counted(run, c, pool.x, pool.y) for c in ending]
        rows = to_label(run, LOOSE, Pool(pool.x, np.full(len(pool.x), UNLABELLED))).rows
        point = run.device().points[ending[0].number]
        handed_on = np.flatnonzero(run.predict(point, pool.x).answer == ABSTAINED)
        assert len(handed_on)
        assert set(handed_on) <= set(rows)


class TestFiles:
    def test_first_the_list_then_the_certificate(self, run, pool, tmp_path):
        np.savez(tmp_path / "x.npz", x=pool.x)
        text, remark = certify_files(run, LOOSE, pool=tmp_path / "x.npz")
        rows = [int(line.split(",")[0]) for line in text.splitlines()[1:]]
        assert f"{len(rows)} of 500 samples need a label" in remark
        (tmp_path / "labels.csv").write_text("index,label\n" + "".join(f"{row},{pool.y[row]}\n" for row in rows))
        text, remark = certify_files(run, LOOSE, pool=tmp_path / "x.npz", labels=tmp_path / "labels.csv")
        assert text.startswith("macs: certified with 90 % confidence")
        assert "--pick certified=20%@macs" in remark

    def test_labels_in_the_file_will_do(self, run, pool, tmp_path):
        np.savez(tmp_path / "xy.npz", x=pool.x, y=pool.y)
        assert "samples of the pool" in certify_files(run, LOOSE, pool=tmp_path / "xy.npz")[0]

    def test_labels_without_a_pool_are_refused(self, run, tmp_path):
        with pytest.raises(InputError, match="--pool"):
            certify_files(run, LOOSE, labels=tmp_path / "labels.csv")

    @pytest.mark.parametrize("confidence", [0.0, 1.0, 90.0, float("nan")])
    def test_a_confidence_is_a_probability(self, run, confidence):
        with pytest.raises(InputError, match="between 0 and 1"):
            certify_files(run, LOOSE, confidence=confidence)

    @pytest.mark.parametrize(("drop", "same"), [("20.7%", 0.207), ("0.7%", 0.007)])
    def test_a_drop_is_the_same_however_it_is_written(self, run, drop, same):
        certify(run, drop)
        again = certify(run, same)
        assert again.recorded
        assert again.asked.query.max_drop == same

    def test_a_device_in_the_drop_is_not_overlooked(self, run):
        with pytest.raises(PickError, match=r"'1%@macs' is no drop.*--device"):
            certify(run, "1%@macs")

    def test_drops_and_devices_are_read_as_in_picks(self, run):
        with pytest.raises(PickError):
            certify(run, "much")
        with pytest.raises(PickError, match="no device cpu"):
            certify(run, LOOSE, device="cpu")


def test_a_front_without_cheaper_points_has_nothing_to_certify(run):
    device = run.device()
    only = device.model_copy(update={"points": (device.backbone,)})
    alone = Run(run.directory, run.answers.model_copy(update={"devices": (only,)}))
    with pytest.raises(PickError, match="cheaper than the backbone"):
        certify(alone, LOOSE)


@pytest.mark.parametrize("lost", ["hashes", "sample_dtype", "sample_shape"])
def test_answers_that_do_not_tell_about_their_data_are_told(run, pool, lost):
    data = {name: value for name, value in run.answers.data.items() if name != lost}
    older = Run(run.directory, run.answers.model_copy(update={"data": data}))
    with pytest.raises(RunError, match=f"does not tell the {lost} of the run's data.*rewrites the file"):
        certify(older, LOOSE, pool=pool)


def test_code_that_nobody_has_named_is_not_run(searched, pool):
    directory = searched().directory
    study = yaml.safe_load(directory.study_file.read_text())
    study["backbones"][0]["model"] = "antigravity:fly"
    directory.study_file.write_text(yaml.safe_dump(study))
    for asked in ({}, {"pool": pool}):
        with pytest.raises(InputError, match=r"antigravity:fly.*--trust"):
            certify(Run.load(directory.path), LOOSE, **asked)
