from typing import Literal

import numpy as np
from pydantic import Field

import mcrace


@mcrace.task("sectors")
class Sectors(mcrace.Task):
    """Points of the unit circle, whose labels alternate over an even number of sectors."""

    kind: Literal["sectors"] = "sectors"
    sectors: int = Field(4, ge=2, multiple_of=2, description="number of sectors")

    def inputs(self):
        return 2

    def draw(self, pool, stream):
        angle = 2 * np.pi * stream.uniforms(self.samples)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), np.where(np.sin(self.sectors / 2 * angle) > 0, 1.0, -1.0)
