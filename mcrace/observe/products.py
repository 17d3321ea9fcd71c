"""Inner products of all rows of two arrays, in an order of sums that no processor decides."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled


@compiled
def products_of(A, X):
    """Inner products [network, row, sample] of the rows of A [network, row, input] and X [network or 1, sample, input].

    Vectors run over the samples, so that each sum keeps its order.
    """
    networks, rows, inputs = A.shape
    samples = X.shape[1]
    out, columns = np.empty((networks, rows, samples)), np.empty((inputs, samples))
    four, sums = np.zeros((4, inputs)), np.empty((4, samples))  # rows at once: they share what is read of X
    for i in range(networks):
        if i == 0 or len(X) > 1:
            columns[:] = X[i].T
        for first in range(0, rows, 4):
            count = min(4, rows - first)
            four[:count] = A[i, first : first + count]
            sums[:] = 0.0
            for k in range(inputs):
                p, q, r, s = four[0, k], four[1, k], four[2, k], four[3, k]
                for n in range(samples):
                    x = columns[k, n]
                    sums[0, n] += p * x
                    sums[1, n] += q * x
                    sums[2, n] += r * x
                    sums[3, n] += s * x
            out[i, first : first + count] = sums[:count]
    return out
