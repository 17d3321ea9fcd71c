"""Inner products of all rows of two arrays, in an order of sums that no processor decides."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled

SHARING = 4  # rows of A that share what is read of X


@compiled
def products_of(A, X):
    """Inner products [network, row, sample] of the rows of A [network, row, input] and X [network or 1, sample, input].

    Vectors run over the samples, so that each sum keeps its order.
    """
    networks, rows, inputs = A.shape
    samples = X.shape[1]
    out, columns = np.empty((networks, rows, samples)), np.empty((inputs, samples))
    some = np.empty((SHARING, samples))
    for i in range(networks):
        if i == 0 or len(X) > 1:
            columns[:] = X[i].T
        for first in range(0, rows, SHARING):
            count = min(SHARING, rows - first)
            some[:] = 0.0
            for k in range(inputs):
                for j in range(count):
                    part = A[i, first + j, k]
                    for n in range(samples):
                        some[j, n] += part * columns[k, n]
            out[i, first : first + count] = some[:count]
    return out
