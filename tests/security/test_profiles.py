"""A device's profile that came from elsewhere: figures that are checked, texts that are never a path."""

import json

import pytest

from eesearch.core.errors import CostError
from eesearch.costs import profile as profiles
from eesearch.costs.profile import load_profile, save_profile
from eesearch.study.rundir import RunDir
from tests.unit.costs.test_differences import MACS, made


@pytest.fixture
def sound():
    found = made("cpu:eager:t1:b1", MACS, (0.1, 0.2, 0.3))
    return found.model_copy(update={"params_prefix": MACS, "carry_bytes": MACS, "peak_segment": (4.0, 3.0, 2.0, 1.0)})


@pytest.fixture
def written(tmp_path, sound):
    """Writes a sound profile with some fields changed, by their dotted paths."""

    def write(changes):
        fields = json.loads(sound.model_dump_json())
        for path, value in changes.items():
            *way, last = path.split(".")
            place = fields
            for name in way:
                place = place[name]
            place[last] = value
        (tmp_path / "pi.json").write_text(json.dumps(fields))
        return tmp_path / "pi.json"

    return write


def test_a_sound_profile_is_read(written, sound):
    assert load_profile(written({})) == sound


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"latency.colour": "red"}, "latency.colour: Extra inputs are not permitted"),
        ({"macs_prefix": [1, 2, 3]}, "macs_prefix has 3 figures; the cuts and the output are 4"),
        ({"params_prefix": [1]}, "params_prefix has 1 figures; the cuts and the output are 4"),
        ({"carry_bytes": [1]}, "carry_bytes has 1 figures"),
        ({"peak_segment": [1]}, "peak_segment has 1 figures"),
        ({"macs_prefix": []}, "there are no prefixes"),
        ({"latency.prefix_ms": [1, 2, 3, 4, 5]}, "prefix_ms at batch size 1 has 5 figures"),
        ({"latency.prefix_ms": []}, "there are no prefixes"),
        ({"latency.prefix_ms": [1, 3, 2, 4]}, "prefix_ms at batch size 1 falls: a longer prefix cannot cost less"),
        ({"macs_prefix": [4, 3, 2, 1]}, "macs_prefix falls"),
        ({"latency.prefix_ms": [-1, 2, 3, 4]}, "latency.prefix_ms.0: Input should be greater than or equal to 0"),
        ({"latency.resume_ms": -0.1}, "latency.resume_ms: Input should be greater than or equal to 0"),
        ({"latency.head_ms.a.linear": -0.1}, "latency.head_ms.a.linear: Input should be greater"),
        (
            {"latency.decision_ms.max_prob": float("nan")},
            "latency.decision_ms.max_prob: Input should be a finite number",
        ),
        ({"latency.noise": float("inf")}, "latency.noise: Input should be a finite number"),
        ({"macs_head.a.linear": "Infinity"}, "macs_head.a.linear: Input should be a finite number"),
        ({"latency.batch": 0}, "latency.batch: Input should be greater than or equal to 1"),
        ({"cuts": ["a", "b", "b"]}, "two cuts have the same name"),
        ({"macs_head.z": {}}, "there are heads at 'z', which is no cut"),
        ({"cuts": "abc"}, "cuts: Input should be a valid array"),
        ({"latency": []}, "latency: Input should be an object"),
    ],
)
def test_figures_that_cannot_be(written, changes, words):
    with pytest.raises(CostError) as raised:
        load_profile(written(changes))
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"the profile {written(changes)} is damaged; got ")


def test_batch_sizes_rise_to_the_device_s(written, sound):
    once, twice = (json.loads(sound.latency.model_dump_json()) | {"batch": batch} for batch in (1, 2))
    assert load_profile(written({"latency": twice, "smaller": [once]})).batch == 2
    with pytest.raises(CostError, match="batch sizes must rise from 1; got 2, 1"):
        load_profile(written({"smaller": [twice]}))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"PK\x03\x04", b"[" * 1_000_000, b'{"device": ' * 100_000, b"null", b'"x"', b"{}"]
)
def test_what_is_no_profile(tmp_path, content):
    (tmp_path / "pi.json").write_bytes(content)
    with pytest.raises(CostError, match=r"pi\.json is damaged; got .*expected a file that `eesearch profile` wrote"):
        load_profile(tmp_path / "pi.json")


def test_too_large(tmp_path, monkeypatch):
    with (tmp_path / "pi.json").open("wb") as file:
        file.truncate(profiles.LARGEST_PROFILE + 1)  # takes no space
    with pytest.raises(CostError, match=r"pi\.json is too large; expected at most 67,108,864 bytes"):
        load_profile(tmp_path / "pi.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    monkeypatch.setattr(profiles, "LARGEST_PROFILE", 100)
    with pytest.raises(CostError, match="is too large"):
        load_profile(tmp_path / "endless.json")


def test_nothing_that_it_says_is_run_or_a_path(small, tmp_path, bombs, marker, cli):
    (tmp_path / "pi.json").write_bytes(bombs["pickle"])
    done = cli("profile", small / "study.yaml", "--device", tmp_path / "pi.json", "--run", tmp_path / "run")
    assert done.exit_code == 2
    assert "is damaged" in done.output
    assert not marker.exists()


def test_the_name_of_a_device_stays_in_the_directory(small, tmp_path, cli):
    """What is kept of a foreign profile is called after the device as the study names it."""
    run, evil = tmp_path / "deep" / "run", tmp_path / "pi.json"
    measured = load_profile(RunDir(small).profile_file("macs"))
    save_profile(measured.model_copy(update={"device": "../../../evil"}), evil)
    done = cli("profile", small / "study.yaml", "--device", evil, "--run", run, "--quiet")
    assert done.exit_code == 0, done.output
    (kept,) = (path for path in tmp_path.rglob("*.json") if path != evil)
    assert kept.parent == run / "profiles"
    assert load_profile(kept).device == str(evil)
