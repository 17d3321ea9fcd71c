"""What the processor can do at most: multiply-adds on vectors that stay in registers."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.kernels.lanes import aligned, lane_count
from mcrace.kernels.tiles import fma, load, own, store

PEAK = "fma peak"
ROWS, COLS = 4, 3  # a tile of sums that do not wait for each other: as many as fit 16 registers beside two factors
ROUNDS = 1000


@compiled
def _multiply_add(x, rounds):
    numbers = own(x, 0, ROWS, COLS + 2)
    total = load(numbers, 0, 0, ROWS, COLS)
    factor, term = load(numbers, 0, COLS, 1, 1), load(numbers, 0, COLS + 1, 1, 1)
    for _ in range(rounds):
        total = fma(total, factor, term)
    store(numbers, 0, 0, total)


class Peak:
    """Multiply-adds alone, with the methods of a peer; a step is `ROUNDS` of each sum."""

    def __init__(self, dtype: str) -> None:
        lanes = lane_count(np.dtype(dtype))
        self.flops = 2 * ROWS * COLS * ROUNDS * lanes  # of a step
        self.x = aligned((ROWS, COLS + 2, lanes), dtype)
        self.x[:, COLS] = 0.5

    def run(self, steps: int) -> None:
        """Take steps."""
        _multiply_add(self.x, ROUNDS * steps)
