"""A whole study in a few seconds: scikit-learn's digits, a tiny residual CNN, counted costs and a quick timer."""

import pytest
import yaml

TINY = {
    "name": "tiny",
    "backbone": {
        "model": "eesearch.nets.zoo:residual_cnn",
        "args": {"channels": [8, 16], "blocks": 1, "classes": 10, "in_channels": 1},
    },
    "data": {"source": "eesearch.training.data:digits", "calibration": {"from": "train", "share": 0.4}},
    "input": {"scale": 0.0625, "mean": [0.3], "std": [0.37]},
    "training": {
        "epochs": 4,
        "batch_size": 32,
        "lr": 0.01,
        "heads": {"epochs": 15, "batch_size": 64, "lr": 0.02},
        "joint": {"epochs": 1, "batch_size": 64, "lr": 0.001},
    },
    "devices": ["macs"],
    "space": {
        "heads": [{"kind": "linear", "pool": "mixed", "size": 2}, {"kind": "conv", "pool": "none", "channels": 4}],
        "levels": 12,
        "max_exits": 2,
        "criteria": ["max_prob", "entropy"],
    },
    "measuring": {"processes": 1, "warmup": 0.01, "warmup_max": 0.05, "round": 0.005, "rounds_min": 3, "rounds_max": 4},
    "verify": {"seconds": 0.2},
    "budget": {"trials": 6},
}


@pytest.fixture(scope="session")
def tiny_fields():
    """Fields of the study; not to be changed."""
    return TINY


@pytest.fixture
def tiny():
    """Fields of the study; change them at will."""
    return yaml.safe_load(yaml.safe_dump(TINY))


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """A finished run on two devices; read it, do not write to it."""
    from eesearch.api import search_study
    from eesearch.study.question import Study

    fields = TINY | {"devices": ["cpu:eager:t1:b1", "macs"]}
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def begun(tmp_path_factory):
    """A finished run of three trials on one device; copy it before you write to it."""
    from eesearch.api import search_study
    from eesearch.study.question import Study

    fields = TINY | {"budget": {"trials": 3}}
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "begun")
