"""What every registered back end must do, where its libraries and its device are."""

import pytest
import torch

from eesearch.core.errors import CostError, InputError
from eesearch.core.registry import BACKENDS
from eesearch.testing import BackendContract


class TestBackend(BackendContract):
    @pytest.fixture(autouse=True, params=sorted(BACKENDS))
    def _each(self, request):
        self.backend = request.param
        try:
            BACKENDS[self.backend].require()
        except CostError as error:
            pytest.skip(str(error))
        if BACKENDS[self.backend].kinds == ("cuda",) and not torch.cuda.is_available():
            pytest.skip("no GPU that torch can use")


def test_unknown_back_end_lists_the_known_ones():
    with pytest.raises(InputError, match=r"no back end 'warp'.*eager"):
        BACKENDS["warp"]
