import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest

# Tests, and the programs that they start, import lightning and transformers by themselves, beside any torchvision.
STARTUP = str(Path(__file__).parent / "startup")
sys.path.insert(0, STARTUP)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [STARTUP, os.environ.get("PYTHONPATH")]))
import_module("sitecustomize")


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """Ctrl-C is heard, by the children of tests too: shells start what runs in the background with it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks on few cores: threads cost more than they bring, and tests run side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def own_state(tmp_path_factory):
    """What is remembered on this account: of the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
