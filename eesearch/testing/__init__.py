"""Contract kits that extensions inherit: what every registered part must do. Only tests import this module.

A test class inherits the kit and says what it is for:

    class TestMyHead(HeadContract):
        spec = HeadSpec(kind="mine", pool="avg", size=2)
        cut_shape = (8, 6, 6)
        refused = ((HeadSpec(kind="mine"), (8,)),)
"""

from eesearch.testing.backends import BackendContract
from eesearch.testing.heads import FittedHeadContract, HeadContract
from eesearch.testing.models import ModelContract
from eesearch.testing.strategies import StrategyContract

__all__ = ["BackendContract", "FittedHeadContract", "HeadContract", "ModelContract", "StrategyContract"]
