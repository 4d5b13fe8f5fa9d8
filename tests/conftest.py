import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks on few cores: threads cost more than they bring, and tests run side by side."""
    import torch

    torch.set_num_threads(1)
