"""Steady faces: averaged over time where nothing but noise changed, before the network and behind it."""

from gpenvideo.means import PERIOD_S, WARM_UP_S
from gpenvideo.steady.change import Change
from gpenvideo.steady.mean import WORK_PX, Steadied, Steady
from gpenvideo.steady.settled import Settled, settled

__all__ = ["PERIOD_S", "WARM_UP_S", "WORK_PX", "Change", "Settled", "Steadied", "Steady", "settled"]
