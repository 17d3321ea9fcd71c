"""What the processor can do at most: multiply-adds on vectors that stay in registers."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.kernels.lanes import aligned, lane_count
from mcrace.kernels.tiles import fma, load, own, store

PEAK = "fma peak"
CHAINS = 4  # rows and columns of a tile: sums that do not wait for each other
ROUNDS = 1000


@compiled
def _multiply_add(x, rounds):
    numbers = own(x, 0, CHAINS, CHAINS + 2)
    total = load(numbers, 0, 0, CHAINS, CHAINS)
    factor, term = load(numbers, 0, CHAINS, 1, 1), load(numbers, 0, CHAINS + 1, 1, 1)
    for _ in range(rounds):
        total = fma(total, factor, term)
    store(numbers, 0, 0, total)


class Peak:
    """Multiply-adds alone, with the methods of a peer; a step is `ROUNDS` of each chain."""

    def __init__(self, dtype: str) -> None:
        lanes = lane_count(np.dtype(dtype))
        self.flops = 2 * CHAINS**2 * ROUNDS * lanes  # of a step
        self.x = aligned((CHAINS, CHAINS + 2, lanes), dtype)
        self.x[:, CHAINS] = 0.5

    def run(self, steps: int) -> None:
        """Take steps."""
        _multiply_add(self.x, ROUNDS * steps)
