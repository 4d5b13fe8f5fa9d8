import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from eesearch.study.units import Share

SHARE = TypeAdapter(Share)


@given(st.decimals(0, 100, places=3) | st.integers(0, 100))
def test_every_percentage_is_read_back(percent):
    value = SHARE.validate_python(f"{percent}%")
    assert value == pytest.approx(float(percent) / 100)
    assert SHARE.validate_json(SHARE.dump_json(value)) == value


def test_only_large_shares_are_written_as_percentages():
    written = [json.loads(SHARE.dump_json(SHARE.validate_python(text))) for text in ("0.5%", "25%", "30%", "100%")]
    assert written == [0.005, 0.25, "30%", "100%"]


def test_a_large_number_was_meant_as_a_percentage():
    with pytest.raises(ValidationError, match=r"'0\.3' is no share"):
        SHARE.validate_python(0.3)
