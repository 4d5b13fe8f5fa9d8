import sys
from types import ModuleType

import pytest

from eesearch.core.hub import hub_as_allowed, may_download


@pytest.fixture
def library(monkeypatch):
    """As one of the hub's has read the environment when it was imported."""
    module = ModuleType("huggingface_hub.constants")
    module.HF_HUB_OFFLINE = False
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", module)
    return module


@pytest.mark.parametrize(("value", "asked"), [(None, False), ("", False), ("1", False), ("0", True), ("off", True)])
def test_the_hub_is_asked_only_if_the_user_says_so(value, asked, library, monkeypatch):
    if value is None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert may_download() is asked
    with hub_as_allowed():
        assert library.HF_HUB_OFFLINE is not asked
    assert library.HF_HUB_OFFLINE is False


def test_what_was_set_is_set_back_after_an_error(library, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(OSError), hub_as_allowed():
        raise OSError
    assert library.HF_HUB_OFFLINE is False
