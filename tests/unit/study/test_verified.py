"""What is written down about points that ran, and what it says."""

import pytest

from eesearch.costs.pairing import Spent
from eesearch.study.rundir import RunDir
from eesearch.study.verified import Verified, VerifiedFile, summed_up, verified_words


def spent(mean):
    return Spent(mean=mean, raw_mean=1.01 * mean, p50=0.9 * mean, p95=2.0 * mean)


def entry(ratio=0.31, *, predicted=0.30, width=0.02, **others):
    fields = {
        "device": "cpu:eager:t1:b1", "front": "cpu:eager:t1:b1", "point": 4, "policy": "p4", "fingerprint": {},
        "when": "2026-01-01T00:00:00+00:00", "batch": 1, "samples": 900, "total": 1000, "calls": 900, "blocks": 10,
        "processes": 1, "predicted": spent(predicted * 10.0), "measured": spent(ratio * 10.0),
        "predicted_backbone": 10.0, "backbone": spent(10.0), "ratio": ratio,
        "interval": (ratio - width, ratio + width), "noise": 0.02, "spread": 0.01, "contention": 1.0,
        "accuracy": 0.91, "table_accuracy": 0.91, "differing": 0, "near": 0,
    }  # fmt: skip
    return Verified(**fields | others)


def test_figures_of_an_entry():
    one = entry()
    assert one.predicted_ratio == pytest.approx(0.30)
    assert one.error == pytest.approx(0.30 / 0.31 - 1.0)
    assert one.speedup == pytest.approx(1 / 0.31)
    assert one.speedup_interval == pytest.approx((1 / 0.33, 1 / 0.29))


def test_words_when_the_prediction_holds():
    assert verified_words(entry(), "Point 4") == (
        "Point 4 measured end to end: 0.31 x (predicted 0.30 x), 95 % 0.29 to 0.33."
    )
    assert "0.051 x (predicted 0.050 x), 95 % 0.050 to 0.052" in verified_words(
        entry(0.051, predicted=0.05, width=0.001), "It"
    )


@pytest.mark.parametrize(("noise", "width", "holds"), [(0.02, 0.01, False), (0.2, 0.01, True), (0.02, 0.06, True)])
def test_a_prediction_holds_within_noise_or_interval(noise, width, holds):
    one = entry(0.35, width=width, noise=noise)
    assert one.agrees is holds
    assert ("further from the prediction than noise" in verified_words(one, "It")) is not holds


@pytest.mark.parametrize(
    ("ratio", "width", "pays", "words"),
    [
        (0.9, 0.05, "yes", None),
        (0.98, 0.05, "unclear", "By the clock no saving is shown."),
        (1.2, 0.05, "no", "By the clock it is slower than the unmodified network: exits do not pay here."),
    ],
)
def test_the_clock_decides_whether_exits_pay(ratio, width, pays, words):
    one = entry(ratio, predicted=ratio, width=width)
    assert one.pays == pays
    said = verified_words(one, "It")
    assert words in said if words else "By the clock" not in said


def test_differing_samples_are_told():
    assert verified_words(entry(differing=3), "It").endswith(
        "3 of 1,000 samples were answered or stopped otherwise than in the table."
    )


def test_entries_are_summed_up():
    found = summed_up([entry(r, predicted=1.02 * r, noise=n) for r, n in ((0.2, 0.01), (0.3, 0.04), (0.4, 0.02))])
    assert (found.error, found.worst, found.noise) == (pytest.approx(0.02), pytest.approx(0.02), 0.04)


def test_newer_entries_replace_older_ones():
    file = VerifiedFile(entries=(entry(0.3), entry(0.4, policy="p5"))).with_newer([entry(0.35), entry(device="b")])
    assert [(e.device[:1], e.policy, e.ratio) for e in file.entries] == [
        ("c", "p4", 0.35), ("c", "p5", 0.4), ("b", "p4", 0.31),
    ]  # fmt: skip


def test_the_run_directory_keeps_them(tmp_path):
    run = RunDir(tmp_path)
    assert run.verified() == ()
    run.add_verified([entry()])
    run.add_verified([entry(policy="p5")])
    assert run.verified() == (entry(), entry(policy="p5"))
    assert not list(tmp_path.glob("*.tmp*"))
    (tmp_path / "verified.json").write_text('{"version": 1, "ent')
    assert run.verified() == ()
    run.add_verified([entry()])
    assert run.verified() == (entry(),)
