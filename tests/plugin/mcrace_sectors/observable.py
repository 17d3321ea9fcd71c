import numpy as np

import mcrace


@mcrace.observable("top_share")
def top_share(state):
    """Share of the sum of all norm products |v||w| that the largest tenth of them holds."""
    a = np.sort(state.norm_product, axis=1)
    return a[:, -max(1, a.shape[1] // 10) :].sum(axis=1) / a.sum(axis=1)
