"""GPEN networks in plain torch: the published ones, the v2 ones, and their checkpoints."""

from gpenvideo.gpen.config import GPENConfig, channel_table
from gpenvideo.gpen.discriminator import Discriminator
from gpenvideo.gpen.generator import GPEN

__all__ = ["GPEN", "Discriminator", "GPENConfig", "channel_table"]
