"""Systems in a study: what they may be, their profiles, and what a search finds on them."""

from __future__ import annotations

from math import inf
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from eesearch.core.costs import DeviceProfile, LatencyProfile
from eesearch.core.errors import CostError, StudyError
from eesearch.core.systems import SystemProfile
from eesearch.costs.profile import load_any_profile, load_profile, save_profile
from eesearch.exits.evaluate import replay
from eesearch.nets.exitnet import ExitNet
from eesearch.study.compose import Composer
from eesearch.study.examples import Examples
from eesearch.study.files import load_study
from eesearch.study.picks import Picked
from eesearch.study.question import Study
from eesearch.study.trial import Finished
from eesearch.study.verify import verify_picks
from tests.unit.study.conftest import FIELDS

TIMED = "cpu:eager:t1:b1"
LINK = {"bandwidth": 10, "round_trip": 1, "bits": [32, 8]}


def chain(*, device=TIMED, tiers=2, **changes):
    names = ("phone", "edge", "cloud")[:tiers]
    fields = {
        "tiers": [{"name": name, "device": device, "slowdown": 4.0 ** (tiers - k)} for k, name in enumerate(names)],
        "links": [{**LINK, "bits": [32]}] * (tiers - 1),
    }
    return {**fields, **changes}


def study(system, **fields):
    return Study.model_validate(FIELDS | {"devices": ["chain"], "systems": {"chain": system}} | fields)


class TestTheStudyFile:
    def test_a_system_stands_among_the_devices(self):
        found = study(chain(tiers=3), devices=["chain", "macs"])
        assert found.measured == (TIMED, "macs")
        assert found.systems["chain"].axes == {"latency_ms", "bytes", "macs", "params"}

    @pytest.mark.parametrize(
        ("system", "message"),
        [
            (chain(device="gpu"), r"systems.chain.tiers.0.device.*'gpu' is not a device"),
            (chain(device="cpu:eager:t1:b8"), "a tier takes one sample at a time; got batch 8"),
            (chain(tiers=3, links=[LINK]), "3 tiers need 2 links, one from each to the next; got 1"),
            (chain(links=[LINK], boundaries=list("abcde")), "at most 4 boundaries can be coded; got 5"),
            (chain(links=[LINK]), "boundaries and a link with 8 among its bits go together"),
            (chain(boundaries=["a"]), "boundaries and a link with 8 among its bits go together"),
            (chain(device="macs"), "axis latency_ms needs times; tier 'phone' only counts: write axis: bytes"),
            (chain(axis="energy_mj"), "the first tier 'phone' tells no energy"),
            (chain(tiers=1), "at least 2 items"),
            (chain(links=[{**LINK, "bits": [16]}]), "bits"),
            (chain() | {"colour": "red"}, "colour"),
            (chain() | {"tiers": [*chain()["tiers"][:1], {"name": "x", "device": TIMED, "devices": 2}]}, "'x' is one"),
        ],
    )
    def test_mistakes_are_told(self, system, message):
        with pytest.raises(ValidationError, match=f"(?s){message}"):
            study(system)

    def test_tiers_have_names_of_their_own(self):
        twice = chain()
        twice["tiers"][1]["name"] = "phone"
        with pytest.raises(ValidationError, match="tiers need names of their own"):
            study(twice)

    @pytest.mark.parametrize("name", ["macs", TIMED, "chain.json"])
    def test_a_system_is_not_called_as_a_device(self, name):
        with pytest.raises(ValidationError, match="is the name of a device: call the system otherwise"):
            Study.model_validate(FIELDS | {"systems": {name: chain()}})

    def test_a_system_that_is_not_there_is_no_device(self):
        with pytest.raises(ValidationError, match=r"'ring' is not a device; expected .* or a name among systems"):
            study(chain(), devices=["ring"])

    def test_limits_may_be_on_what_a_system_knows(self):
        limited = {"constraints": {"limits": [{"axis": "bytes", "at_most": 10}]}}
        assert study(chain(), objectives=limited)
        with pytest.raises(ValidationError, match="no device of the study can tell 'mean bytes"):
            Study.model_validate(FIELDS | {"objectives": limited})

    def test_the_head_that_says_nothing_is_not_trained(self):
        with pytest.raises(ValidationError, match="head 'none' says nothing and is not trained"):
            study(chain(), space=FIELDS["space"] | {"heads": [{"kind": "none", "pool": "none"}]})

    def test_profiles_of_tiers_are_found_from_elsewhere(self, tmp_path, monkeypatch):
        import yaml

        monkeypatch.chdir(tmp_path)
        fields = FIELDS | {"devices": ["chain"], "systems": {"chain": chain(device="pi.json")}}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(fields))
        assert load_study(tmp_path / "study.yaml").systems["chain"].tiers[0].device == str(tmp_path / "pi.json")

    def test_the_shipped_study_is_one(self):
        found = load_study(Path(__file__).parents[3] / "studies" / "digits_tiers.yaml")
        assert [tier.name for tier in found.systems[found.devices[0]].tiers] == ["phone", "edge", "cloud"]

    def test_one_device_is_no_part_of_keys(self):
        assert "devices" not in study(chain()).systems["chain"].tiers[0].model_dump()
        assert "views" not in study(chain()).model_dump()["input"]


@pytest.fixture
def timed(made, tmp_path):
    """A profile with times: the multiply-adds of the fake network, in microseconds."""
    problem = made("counted")
    (counted,) = problem.materials.profiles
    assert isinstance(counted, DeviceProfile)
    latency = LatencyProfile(
        prefix_ms=tuple(macs / 50.0 for macs in counted.macs_prefix),
        head_ms={cut: {name: macs / 50.0 for name, macs in heads.items()} for cut, heads in counted.macs_head.items()},
        decision_ms=dict.fromkeys(("max_prob", "patience"), 0.01),
        resume_ms=0.0,
        timings={},
        noise=0.03,
    )
    file = tmp_path / "timed.json"
    save_profile(counted.model_copy(update={"latency": latency}), file)
    return str(file)


@pytest.fixture
def on_tiers(made, timed):
    """A problem on three tiers; its first cut may be coded."""

    def make(name="tiers", *, space=None, **changes):
        cuts = made("counted").cuts
        energy = {"mj_per_ms": 2.0, "mj_per_byte": 0.01}
        system = chain(device=timed, tiers=3, links=[LINK, {**LINK, "bits": [32]}], boundaries=[cuts[0]])
        system["tiers"][0]["energy"] = energy
        space = FIELDS["space"] | {"max_exits": 2} | (space or {})
        return made(name, devices=["chain"], systems={"chain": system | changes}, space=space)

    return make


class TestProfile:
    def test_it_knows_its_tiers_and_what_it_sends(self, on_tiers):
        (found,) = on_tiers().materials.profiles
        assert isinstance(found, SystemProfile)
        assert found.names == ("phone", "edge", "cloud")
        assert found.raw_bytes == 24.0
        assert set(found.carry_bytes.values()) == {32.0}
        assert list(found.coded_bytes.values()) == [16.0]
        assert found.axes[:5] == ("latency_ms", "bytes", "energy_mj", "macs", "params")
        assert "times x 64 (declared, not measured)" in found.fingerprint["phone"]
        assert found.fingerprint["phone to edge"].endswith("32 or 8 bits per value (declared)")

    def test_it_is_kept_in_the_run(self, on_tiers, tmp_path):
        (found,) = on_tiers().materials.profiles
        file = tmp_path / "tiers" / "profiles" / "chain.json"
        assert load_any_profile(file) == found
        with pytest.raises(CostError, match="is of a system of several devices; expected that of one device"):
            load_profile(file)
        file.write_text(file.read_text().replace('"axis": "latency_ms"', '"axis": "joy"'))
        with pytest.raises(CostError, match="is damaged"):
            load_any_profile(file)

    def test_a_boundary_is_a_cut(self, on_tiers):
        with pytest.raises(StudyError, match=r"systems\.chain\.boundaries: the network has no cut 'nowhere'"):
            on_tiers(boundaries=["nowhere"])

    def test_devices_share_views_and_here_are_none(self, on_tiers, timed):
        tiers = chain(device=timed, tiers=3)["tiers"]
        tiers[0]["devices"] = 2
        with pytest.raises(StudyError, match=r"got 2 devices; expected 1: the samples are not views"):
            on_tiers(tiers=tiers)

    def test_energy_is_declared_or_measured(self, on_tiers, timed):
        tiers = chain(device=timed, tiers=3)["tiers"]
        tiers[0]["energy"] = {"mj_per_byte": 0.1}
        with pytest.raises(CostError, match="the profile of the first tier 'phone' knows no energy"):
            on_tiers(tiers=tiers, axis="energy_mj")

    def test_a_profile_without_times_knows_bytes_only(self, on_tiers, timed, tmp_path):
        file = tmp_path / "untimed.json"
        save_profile(load_any_profile(file.with_name("timed.json")).model_copy(update={"latency": None}), file)
        with pytest.raises(CostError, match="latency_ms needs times, and the profile of tier 'edge' has none"):
            on_tiers(tiers=[{"name": n, "device": d} for n, d in (("a", timed), ("edge", str(file)), ("c", timed))])

    def test_batches_are_refused(self, on_tiers, timed, tmp_path):
        known = load_any_profile(tmp_path / "timed.json")
        batched = known.model_copy(update={"latency": known.latency.model_copy(update={"batch": 8})})
        save_profile(batched, tmp_path / "batched.json")
        with pytest.raises(CostError, match="the profile of tier 'phone' is of batches of 8"):
            on_tiers(tiers=chain(device=str(tmp_path / "batched.json"), tiers=3)["tiers"])


class TestVerify:
    def test_what_is_declared_is_not_timed(self):
        picked = Picked(SimpleNamespace(system={"phone": "slow"}, device="chain"), None)
        with pytest.raises(CostError, match="'chain' is a system: its links and slowdowns are declared"):
            verify_picks(None, [picked])


class TestSearch:
    def test_a_front_uses_the_tiers_and_deployed_networks_do_what_it_says(self, on_tiers):
        problem = on_tiers()
        outcome, (profile,) = problem.first(), problem.materials.profiles
        front = problem.device_front(outcome.design, profile)
        tiers = {e.tier for point in front.points for e in point.policy.exits}
        assert tiers - {"phone"}, "the phone is slow"
        net = problem.workshop.network(outcome.design)
        x = problem.materials.dataset.test.x
        for point in front.points:
            assert not point.policy.exits[-1].is_none
            assert point.costs["bytes"].worst in {0.0, 16.0, 24.0, 32.0, 48.0, 64.0}
            table, _ = problem.replay(outcome.design, profile, "max_prob", "test")
            stop, answer = replay(point.policy, table, problem.workshop.fits(point.policy.fits))
            found = net.predict(x, point.policy, problem.workshop.fits(point.policy.fits))
            np.testing.assert_array_equal(found.answer, answer)
            np.testing.assert_array_equal(found.exit, stop)

    def test_tables_of_coded_carries_are_made_once(self, on_tiers, monkeypatch):
        problem = on_tiers()
        outcome, (profile,) = problem.first(), problem.materials.profiles
        (table,) = problem.workshop.coded_tables(outcome.design, "cal", profile)
        monkeypatch.setattr(ExitNet, "behind", None)
        (again,) = problem.workshop.coded_tables(outcome.design, "cal", profile)
        np.testing.assert_array_equal(table.logits, again.logits)
        assert {e.link for e in table.exits} == {f"8bit@{problem.cuts[0]}"}
        rows = problem.replay(outcome.design, profile, "max_prob", "cal")[0].exits
        assert {e.tier for e in rows if e.link} == {"edge", "cloud"}

    def test_who_decides_by_several_exits_stays_on_the_first_tier(self, on_tiers):
        problem = on_tiers(space={"criteria": ["max_prob", "patience"]})
        outcome, (profile,) = problem.first(), problem.materials.profiles
        table, costs = problem.replay(outcome.design, profile, "patience", "cal")
        assert not any(e.tier or e.is_none for e in table.exits)
        bytes_sent = next(cost for cost in costs if cost.axis == "bytes").step
        assert not bytes_sent[np.isfinite(bytes_sent)].any()

    def test_answers_tell_tiers_links_and_what_is_declared(self, on_tiers):
        problem = on_tiers()
        outcome = problem.first()
        finished = [Finished(number=0, origin="bank", state="complete", seconds=1.0, error="", outcome=outcome)]
        composer = Composer(problem)
        answers = composer.answers(finished)
        (device,) = answers.devices
        assert list(device.system) == ["phone", "edge", "cloud", "phone to edge", "edge to cloud"]
        assert device.backbone.test.costs["bytes"].mean == 48.0
        assert all(not facts.exit.tier for facts in device.overthinking)
        assert all(not point.cal.policy.exits[-1].is_none for point in device.static)
        assert all(not exits[-1].is_none for exits in (oracle.exits for oracle in device.oracle))
        assert isinstance(composer.examples(answers, finished), Examples)
        assert all(stop.threshold == inf for p in device.points for stop in p.cal.policy.stops if stop.exit.is_none)
