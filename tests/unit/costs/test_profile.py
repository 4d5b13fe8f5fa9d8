"""Profiles of a small network: multiply-adds by formula, latency through a `measure` that needs no time."""

import json
import tempfile
from math import inf

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import Timing
from eesearch.core.design import HeadSpec
from eesearch.core.errors import CostError, HeadError
from eesearch.core.policy import Policy, Stop
from eesearch.core.registry import BACKENDS
from eesearch.costs import figures as timed_figures
from eesearch.costs import machine
from eesearch.costs.figures import estimate_seconds, latency_figures
from eesearch.costs.latency import Measured, Measuring
from eesearch.costs.pieces import DecidedTail, HeadTail, preparing
from eesearch.costs.profile import (
    is_current,
    load_any_profile,
    load_profile,
    profile,
    profile_content,
    save_profile,
)
from eesearch.costs.timer import Protocol, Rounds
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.split import split
from tests.unit.costs.conftest import small_network

CPU = "cpu:eager:t1:b1"
SVM, BOOSTING = HeadSpec(kind="svm"), HeadSpec(kind="boosting", rounds=2, depth=3)
LINEAR = HeadSpec()
MLP = HeadSpec(kind="mlp", hidden=(8,), pool="mixed", size=2)
CRITERIA = ("entropy", "max_prob", "margin")


@pytest.fixture
def heads(backbone):
    return {"1": [LINEAR, MLP], "3": [LINEAR], "5": [LINEAR, MLP], "8": [LINEAR]}


def timing(ms):
    return Timing(ms=ms, min=ms, p10=ms, p50=ms, p90=ms, p95=ms, p99=ms, rounds=1, contention=1.0, noisy=False)


class FakeMeasure:
    """Figures by the name of the job, 1 ms if it has none, for each sample; `mj` tells what energy is told."""

    def __init__(self, mj=lambda name: None, **ms):
        self.ms, self.mj = ms, mj
        self.jobs = []
        self.sizes = []

    def __call__(self, jobs, device, protocol, progress):
        self.jobs = list(jobs)
        size = len(jobs[0].parts[0].args[0])
        self.sizes.append(size)
        progress("measure latency", 1, 1)
        timings = {job.name: timing(size * self.ms.get(job.name.replace(" ", "_"), 1.0)) for job in jobs}
        told = {job.name: self.mj(job.name) for job in jobs}
        return Measured(timings, 0.02, {name: mj for name, mj in told.items() if mj is not None})


def quickly(backbone, heads, device=CPU, fake=None):
    return profile(backbone, heads, device, decisions=CRITERIA, measuring=Measuring(measure=fake or FakeMeasure()))


@pytest.fixture(autouse=True)
def _own_lock(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def refuse(*args):
    raise AssertionError("nothing is to be measured")


def test_macs_are_formulas_of_the_dimensions(backbone, heads):
    found = quickly(backbone, heads, "macs", refuse)
    steps = [64 * 4 * 9, 64 * 4 * 4 * 9, 16 * 6 * 4 * 9, 96 * 16, 16 * 5]
    assert found.macs_prefix == tuple(np.cumsum(steps))
    assert found.macs_head == {
        "1": {"linear-avg1": 4 * 5, "mlp8-mixed2": 2 * 4 * 4 * 8 + 8 * 5},
        "3": {"linear-avg1": 4 * 5},
        "5": {"linear-avg1": 6 * 5, "mlp8-mixed2": 2 * 6 * 4 * 8 + 8 * 5},
        "8": {"linear-avg1": 16 * 5},
    }
    weights = [4 * 9 + 4, 4 * 4 * 9 + 4, 6 * 4 * 9 + 6, 96 * 16 + 16, 16 * 5 + 5]
    assert found.params_head["5"] == {"linear-avg1": 6 * 5 + 5, "mlp8-mixed2": 2 * 6 * 4 * 8 + 8 + 8 * 5 + 5}
    assert found.params_prefix == tuple(np.cumsum(weights))
    fitted = quickly(backbone, {"5": [SVM, BOOSTING]}, "macs", refuse)
    trees = 2 * 5
    assert fitted.macs_head["5"] == {SVM.name: 6 * 5, BOOSTING.name: trees * 3}
    assert fitted.params_head["5"] == {SVM.name: 6 + 6 * 5 + 5, BOOSTING.name: trees * (7 + 7 + 8) + 5}
    assert (found.cuts, found.latency, found.axes) == (("1", "3", "5", "8"), None, ("macs", "params", "peak_bytes"))


def test_latency_comes_from_prefixes_and_differences_in_place(backbone, heads):
    figures = {"prefix_0": 1.0, "prefix_1": 2.0, "prefix_2": 4.0, "prefix_3": 5.0, "prefix_4": 6.0}
    figures |= {"head_linear-avg1_on_4x8x8": 0.3, "head_mlp8-mixed2_on_6x4x4": 0.7}
    figures |= {"decision_entropy": 0.1, "decision_max_prob": 0.05, "resume": 0.01}
    timed = quickly(backbone, heads, fake=FakeMeasure(**figures)).latency
    assert timed.prefix_ms == (1.0, 2.0, 4.0, 5.0, 6.0)
    assert timed.head_ms["1"] == {"linear-avg1": 0.3, "mlp8-mixed2": 1.0}
    assert timed.head_ms["3"] == {"linear-avg1": 0.3}  # the same tap, measured once
    assert timed.head_ms["5"] == {"linear-avg1": 1.0, "mlp8-mixed2": 0.7}
    assert timed.decision_ms == {"entropy": 0.1, "max_prob": 0.05, "margin": 1.0}
    assert (timed.resume_ms, timed.noise) == (0.01, 0.02)
    assert timed.timings["prefix 2"] == timing(4.0)


def test_batches_are_measured_with_every_number_of_samples(backbone, heads):
    fake, seen = FakeMeasure(prefix_4=7.0), []
    measuring = Measuring(measure=fake, progress=lambda *step: seen.append(step))
    found = profile(backbone, heads, "cpu:eager:t1:b6", decisions=CRITERIA, measuring=measuring)
    assert fake.sizes == [1, 2, 4, 6]
    assert [each.batch for each in found.smaller] == [1, 2, 4]
    assert (found.batch, found.latency.batch) == (6, 6)
    assert [each.prefix_ms[-1] for each in (*found.smaller, found.latency)] == [7.0, 14.0, 28.0, 42.0]
    assert seen == [("measure latency", done, 4) for done in (1, 2, 3, 4)]
    assert found.fingerprint["sizes"] == "1 2 4 6"
    assert is_current(found, backbone, heads, decisions=CRITERIA, protocol=Protocol())
    alone = quickly(backbone, heads)
    assert (alone.smaller, alone.batch) == ((), 1)


def test_energy_is_told_only_if_every_figure_is(backbone, heads):
    found = quickly(backbone, heads, fake=FakeMeasure(lambda name: 3.0 if name == "prefix 1" else 2.0)).energy
    assert found.prefix_mj == pytest.approx((2.0, 2.25, 2.25, 2.25, 2.25))  # a longer prefix takes no less
    assert (found.head_mj["3"], found.resume_mj) == ({"linear-avg1": 2.0}, 2.0)
    assert found.decision_mj == dict.fromkeys(CRITERIA, 2.0)
    assert quickly(backbone, heads, fake=FakeMeasure(lambda name: None if name == "resume" else 2.0)).energy is None
    assert quickly(backbone, heads, fake=FakeMeasure(lambda name: 0.0)).energy is None, "the meter never ticked"
    assert "energy_mj" not in quickly(backbone, heads).axes


def test_doubtful_measurements_are_told(backbone, heads, caplog):
    quickly(backbone, heads)
    assert not caplog.records

    def measure(jobs, device, protocol, progress):
        bad = timing(1.0).model_copy(update={"contention": 1.5, "noisy": True})
        return Measured({job.name: bad for job in jobs}, 0.2)

    found = quickly(backbone, heads, fake=measure)
    assert len(found.cautions) == 3
    assert "up to 1.50 times" in found.cautions[0]
    assert "disagree by 20%" in found.cautions[1]
    assert "figures never settled: prefix 0, prefix 1, prefix 2, prefix 3, ..." in found.cautions[2]
    assert [record.message for record in caplog.records] == [f"{CPU}: {caution}" for caution in found.cautions]


def test_a_system_that_cannot_pin_or_steady_still_measures_and_says_so(backbone, heads, monkeypatch):
    monkeypatch.delattr(machine.os, "sched_setaffinity", raising=False)
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    found = quickly(backbone, heads)
    assert found.latency.prefix_ms
    assert found.cautions == (
        "this system cannot keep a process on its cores",
        "its memory allocator cannot be steadied",
    )
    assert quickly(backbone, heads, "macs").cautions == ()


@pytest.mark.parametrize(
    "decision",
    [
        *("max_prob", "patience", "gate", "own_gate", "learned", "learned_path"),
        *("margin/mean", "entropy/most_confident", "margin/average", "margin/max", "margin/combined"),
    ],
)
def test_every_kind_of_decision_can_be_timed(backbone, decision):
    head = build_head(LINEAR, backbone.cuts[1].shape, 5).eval()
    with torch.inference_mode():
        carry = backbone.run(backbone.start(torch.cat([backbone.example] * 2)), 0, 2)
        logits, answer, score = DecidedTail(head, decision, 5).eval()(*carry)
        assert torch.equal(logits, head(carry[0]))
    assert answer.tolist() == logits.argmax(-1).tolist()
    assert (score.shape, score.dtype) == ((2,), torch.float32)


def test_prefixes_never_decrease(backbone, heads):
    figures = {"prefix_0": 1.0, "prefix_1": 3.0, "prefix_2": 2.0, "prefix_3": 5.0, "prefix_4": 4.9}
    timed = quickly(backbone, heads, fake=FakeMeasure(**figures)).latency
    assert timed.prefix_ms == pytest.approx((1.0, 2.5, 2.5, 4.95, 4.95))
    assert timed.timings["prefix 1"].ms == 3.0  # the raw figure stays


def parts(figures):
    """All that is prepared."""
    return [part for figure in figures for part in (*figure.parts, *figure.minus)]


def run(parts, prepare, x):
    """What parts in a row give."""
    made = (x,)
    for part in parts:
        made = prepare(part, 1).form(*made)
    return made


def test_figures_run_what_their_names_say(backbone, heads):
    figures = {figure.name: figure for figure in latency_figures(backbone, heads, CRITERIA)}
    x, prepare = backbone.example, preparing(backbone, BACKENDS["eager"])
    with torch.inference_mode():
        assert torch.equal(run(figures["prefix 4"].parts, prepare, x)[0], backbone(x))
        hidden = backbone.run(backbone.start(x), 0, 3)
        assert torch.equal(run(figures["prefix 2"].parts, prepare, x)[0], hidden[0])
        head = figures["head mlp8-mixed2 on 6x4x4"]
        carry, logits = run(head.parts, prepare, x)
        assert torch.equal(logits, head.parts[0].tail.head(hidden[0]))
        assert torch.equal(carry, hidden[0])
        assert torch.equal(run(head.minus, prepare, x)[0], hidden[0])
        decision = figures["decision margin"]
        _, logits, answer, score = run(decision.parts, prepare, x)
        assert torch.equal(logits, run(decision.minus, prepare, x)[1])
        assert answer == logits.argmax(-1)
        assert 0 <= score <= 1
        resume = figures["resume"]
        assert torch.equal(run(resume.parts, prepare, x)[0], run(resume.minus, prepare, x)[0])
        assert len(resume.parts) == 2
    assert {name for name, figure in figures.items() if figure.decides} == {f"decision {c}" for c in CRITERIA}
    assert {name for name, figure in figures.items() if not figure.minus} == {f"prefix {k}" for k in range(5)}


def test_prefixes_are_measured_as_they_are_deployed(backbone, heads):
    figures = {figure.name: figure for figure in latency_figures(backbone, heads, CRITERIA)}
    prepare = preparing(backbone, BACKENDS["eager"])
    decided = figures["decision margin"].parts[0]
    net = ExitNet(backbone, {("5", "linear-avg1"): decided.tail.stage.head})
    early, own = net.exits
    stops = (Stop(exit=early, threshold=0.5), Stop(exit=own, threshold=-inf))
    (whole,) = net.stages(Policy(stops=stops[1:], criterion="margin"))
    first, second = net.stages(Policy(stops=stops, criterion="margin"))

    def span(part):
        return prepare(part, 1).form.span

    assert span(figures["prefix 4"].parts[0]) is whole.segment
    assert span(figures["prefix 2"].parts[0]) is span(decided) is first.segment
    assert span(figures["resume"].parts[0]) is first.segment
    assert span(figures["resume"].parts[1]) is backbone.span(3, 4)
    assert span(figures["resume"].minus[0]) is span(figures["prefix 3"].parts[0])
    assert second.segment is backbone.span(3, 5)


def test_each_head_is_measured_once_per_shape_in_the_middle_of_its_cuts(backbone, heads):
    found = latency_figures(backbone, heads, CRITERIA)
    in_place = [(f.name, f.parts[0].last - 1) for f in found if isinstance(f.parts[0].tail, HeadTail)]
    assert in_place == [
        ("head linear-avg1 on 4x8x8", 1),
        ("head mlp8-mixed2 on 4x8x8", 0),
        ("head linear-avg1 on 6x4x4", 2),
        ("head mlp8-mixed2 on 6x4x4", 2),
        ("head linear-avg1 on 16", 3),
    ]
    others = {figure.name: figure for figure in found}
    assert others["decision margin"].minus[0].last == others["resume"].parts[0].last == 3


def test_without_heads_only_prefixes_are_measured(backbone):
    fake = FakeMeasure()
    timed = quickly(backbone, {}, fake=fake).latency
    assert [job.parts[0].form.span for job in fake.jobs] == [backbone.span(0, k + 1) for k in range(5)]
    assert (timed.head_ms, timed.decision_ms, timed.resume_ms) == ({}, {}, 0.0)


def test_callers_random_state_and_network_are_left_alone(backbone, heads):
    state, key = torch.get_rng_state(), backbone.key
    quickly(backbone, heads)
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.key == key
    assert not backbone.training


def test_head_that_does_not_fit_is_refused(backbone):
    with pytest.raises(HeadError):
        quickly(backbone, {"8": [HeadSpec(kind="conv", pool="none")]}, "macs")


def test_content_is_what_was_profiled_not_its_weights(backbone, heads):
    content = profile_content(backbone, heads, CRITERIA)
    other = small_network()
    with torch.no_grad():
        other[0].weight.mul_(2)
    cuts = ["1", "3", "5", "8"]
    assert profile_content(split(other, torch.ones(1, 1, 8, 8), cuts), heads, CRITERIA[::-1]) == content
    different = [
        profile_content(split(other, torch.ones(1, 1, 8, 8), cuts[:3]), heads, CRITERIA),
        profile_content(split(nn.Sequential(*other, nn.Tanh()), torch.ones(1, 1, 8, 8), cuts), heads, CRITERIA),
        profile_content(backbone, {**heads, "3": [MLP]}, CRITERIA),
        profile_content(backbone, heads, CRITERIA[:1]),
    ]
    assert len({content, *different}) == 5


def test_profile_is_current_until_something_changes(backbone, heads, monkeypatch):
    found = quickly(backbone, heads)
    full = Protocol()
    assert is_current(found, backbone, heads, decisions=CRITERIA, protocol=full)
    assert not is_current(found, backbone, heads, decisions=CRITERIA, protocol=Protocol.quick())
    assert not is_current(found, backbone, {"1": [LINEAR]}, decisions=CRITERIA, protocol=full)
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert not is_current(found, backbone, heads, decisions=CRITERIA, protocol=full)
    counted = quickly(backbone, heads, "macs")
    assert is_current(counted, backbone, heads, decisions=CRITERIA, protocol=Protocol.quick())


def test_file_and_back(backbone, heads, tmp_path):
    found = quickly(backbone, heads)
    save_profile(found, tmp_path / "new" / "cpu.json")
    assert load_profile(tmp_path / "new" / "cpu.json") == found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: b"", "is damaged"),
        (lambda text: b"\xff\x00", "is damaged"),
        (lambda text: json.dumps({**json.loads(text), "cuts": 3}).encode(), "is damaged; got cuts: "),
        (lambda text: json.dumps({**json.loads(text), "colour": 3}).encode(), "is damaged; got colour: "),
    ],
)
def test_damaged_file_is_refused_with_its_path(backbone, heads, tmp_path, damage, message):
    path = tmp_path / "cpu.json"
    save_profile(quickly(backbone, heads), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CostError, match=f"cpu.json {message}.*eesearch profile"):
        load_profile(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(CostError, match=r"none\.json cannot be read; got No such file"):
        load_profile(tmp_path / "none.json")


@pytest.fixture
def elsewhere(backbone, heads, tmp_path):
    """A profile that another machine wrote."""
    path = tmp_path / "board.json"
    save_profile(quickly(backbone, heads), path)
    return path


def test_profile_from_elsewhere_is_used_as_it_is(backbone, heads, elsewhere):
    fewer = backbone.keep(["1", "5"])
    found = quickly(fewer, {"5": [LINEAR]}, str(elsewhere), refuse)
    assert found.device == str(elsewhere)
    assert found.latency == load_profile(elsewhere).latency


@pytest.fixture
def several(backbone, heads, tmp_path):
    """A profile of two networks that another machine wrote, and the networks."""
    path = tmp_path / "several.json"
    networks = {name: each.named(name) for name, each in {"a": backbone, "b": backbone.keep(["1", "5"])}.items()}
    profiles = {
        name: quickly(each, {f"{name}/{cut}": own for cut, own in heads.items() if f"{name}/{cut}" in cuts_of(each)})
        for name, each in networks.items()
    }
    save_profile(CascadeProfile(device="", fingerprint={}, content="", members=profiles, reference="a"), path)
    return path, networks


def cuts_of(backbone):
    return [cut.name for cut in backbone.cuts]


def test_a_network_finds_its_own_among_several(several, backbone):
    path, networks = several
    found = quickly(networks["b"], {"b/5": [LINEAR]}, str(path), refuse)
    assert (found.device, found.cuts) == (str(path), ("b/1", "b/5"))
    assert found.latency == load_any_profile(path).members["b"].latency == load_profile(path, "b").latency
    with pytest.raises(CostError, match=r"several\.json does not know cut b/3"):
        quickly(backbone.keep(["3"]).named("b"), {}, str(path))


def test_profiles_of_one_network_and_of_several_are_told_apart(several, elsewhere, backbone):
    path, networks = several
    with pytest.raises(CostError, match=r"several\.json is of several networks; got a, b; expected that of one"):
        quickly(backbone, {}, str(path))
    with pytest.raises(CostError, match=r"board\.json is of one network; expected that of several, with 'a' among"):
        quickly(networks["a"], {}, str(elsewhere))
    with pytest.raises(CostError, match=r"several\.json lacks network 'c'; got a, b. Measure it there"):
        quickly(backbone.named("c"), {}, str(path))


def test_a_profile_of_other_networks_is_refused(several, backbone):
    path, _ = several
    other = split(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 5)), torch.ones(1, 1, 8, 8), ["1"])
    words = r"of another network: the multiply-adds up to 'a/1' differ; got \d+; expected 512"
    with pytest.raises(CostError, match=words):
        quickly(other.named("a"), {}, str(path))
    with pytest.raises(CostError, match="up to 'a/output' differ"):
        quickly(other.keep([]).named("a"), {}, str(path))


def test_profile_from_elsewhere_must_cover_the_study(backbone, heads, elsewhere):
    with pytest.raises(CostError, match=r"board\.json does not cover this study; got no head 'mlp8-mixed2' at '3'"):
        quickly(backbone, {"3": [LINEAR, MLP]}, str(elsewhere))
    with pytest.raises(CostError, match="no decision 'gate'"):
        profile(backbone, heads, str(elsewhere), decisions=["gate"])
    more = split(small_network(), torch.ones(1, 1, 8, 8), cuts=["1", "2", "5"])
    with pytest.raises(CostError, match=r"board\.json does not know cut 2"):
        quickly(more, {}, str(elsewhere))
    other = small_network()
    other[2] = nn.Conv2d(4, 4, 5, padding=2)
    with pytest.raises(CostError, match=r"another network: the multiply-adds up to '3' differ"):
        quickly(split(other, torch.ones(1, 1, 8, 8), cuts=["1", "3"]), {}, str(elsewhere))


def test_estimate_counts_calls_and_processes(backbone, heads, monkeypatch):
    monkeypatch.setattr(timed_figures, "time_call", lambda *_: Rounds([9000.0, 1.0], 1.0, True))

    def seconds(protocol):
        return estimate_seconds(backbone, heads, CPU, decisions=CRITERIA, protocol=protocol)

    figures = latency_figures(backbone, heads, CRITERIA)
    calls = sum(2 if figure.minus else 1 for figure in figures)
    assert seconds(Protocol()) == pytest.approx(3 * (3.0 + calls * (0.25 + 17.5 * 0.05)))
    assert seconds(Protocol(processes=1)) == pytest.approx(seconds(Protocol()) / 3)
    assert estimate_seconds(backbone, heads, "macs", decisions=CRITERIA, protocol=Protocol()) == 0.0


def test_estimate_counts_every_number_of_samples(backbone, monkeypatch):
    monkeypatch.setattr(timed_figures, "time_call", lambda *_: Rounds([1.0], 1.0, True))
    one, four = (
        estimate_seconds(backbone, {}, f"cpu:eager:t1:b{size}", decisions=(), protocol=Protocol()) for size in (1, 4)
    )
    assert four == pytest.approx(3 * one)


def test_estimate_of_a_slow_network_counts_one_call_per_round(backbone, monkeypatch):
    monkeypatch.setattr(timed_figures, "time_call", lambda *_: Rounds([2000.0], 1.0, True))
    seconds = estimate_seconds(backbone, {}, CPU, decisions=(), protocol=Protocol(processes=1))
    assert seconds == pytest.approx(3.0 + 5 * (3 * 2.0 + 17.5 * 2.0))


def check_real_worker(backbone, device):
    protocol = Protocol(processes=1, warmup=0.0, warmup_max=0.001, round=0.001, rounds_min=3, rounds_max=3)
    seen = []
    measuring = Measuring(protocol, progress=lambda *step: seen.append(step))
    timed = profile(backbone, {"1": [MLP]}, device, decisions=["margin"], measuring=measuring).latency
    assert len(timed.prefix_ms) == 5
    assert all(0 < a <= b for a, b in zip(timed.prefix_ms, timed.prefix_ms[1:], strict=False))
    assert set(timed.timings) == {*(f"prefix {k}" for k in range(5)), "head mlp8-mixed2 on 4x8x8"} | {
        "decision margin",
        "resume",
    }
    jobs = 8 * (2 if device.endswith("b2") else 1)
    assert seen[-1] == ("measure latency", jobs, jobs)


def test_real_worker_profiles_a_split_network(backbone):
    check_real_worker(backbone, CPU)
