# %% [markdown]
# # Do weights converge to the tangent space of the data manifold?
#
# **Question.** Text G says that weight vectors converge exponentially to the tangent space of the manifold that the data lie
# on, at a rate set by its local curvature and by gating. Do they? And if not, where do they go, and what sets the rate?
#
# `python analysis/tangent.py results/tangent tangent.png`, or cell by cell in an editor that knows `# %%`.

# %%
import sys

import numpy as np
from matplotlib.figure import Figure

import mcrace
from mcrace.predictions.panels import COLOURS, CONTROL, MAIN, rows
from mcrace.predictions.tangent_convergence import angles, law_of
from mcrace.screen import show_cells, show_conclusions, show_verdicts

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/tangent", "tangent.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Points of a paraboloid (off, u, (c/2)|u|²) with labels sign(u₁), laid into 10 inputs by a random rotation, with
# curvature and without, at a distance from the origin and without; a sphere and an ellipsoid about the origin.

# %%
show_cells(results)

# %% [markdown]
# **Test.** At the onset of the loss: the angle of w to the tangent space (at the apex of a paraboloid; else the nearest of
# all), at most 0.03 rad if G is right, where starts must be off; on a paraboloid the same less the angle θ* of a neuron that
# points along its own drift, 0 ± 0.03; the slope of log sin θ to the span of the samples on log |w|, -1 ± 0.001. And the rate
# at which neurons turn to their drifts: the coefficient of log |D_a| in its logarithm, 1 ± 0.05, and those of curvature and
# gate share beside it, 0 ± 0.05.

# %%
verdicts = mcrace.test(results)
show_verdicts(verdicts)

# %% [markdown]
# **Figure.** Angles of w at the onset, one row an observable and a cell: to the span of the samples; to the tangent space at
# the apex, with θ* as a cross; to the nearest tangent space of all samples (C); and to that at the point nearest to the
# neuron's own active samples (A), which on a sphere is a right angle for every vector, since each is radial at its own foot
# point.

# %%
shown, laws = [], []
for cell in results:
    if cell.attributes["role"] == "half-step":
        continue
    known = law_of(cell)
    what = [("span", "span_sine", CONTROL)]
    what += [("T at the apex (B)", "tangent_sine_centre", MAIN)] if known is not None else []
    what += [("nearest T (C)", "tangent_sine_nearest", COLOURS[2]), ("own T (A)", "tangent_sine_active", COLOURS[3])]
    for label, observable, colour in what:
        laws += [(known, len(shown))] if "(B)" in label else []
        shown.append((f"{cell.name}: {label}", colour, angles(observable, cell)))
figure = Figure(figsize=(8, 1 + 0.26 * len(shown)), layout="constrained")
axes = figure.subplots()
count = rows(axes, shown)
axes.plot(*np.transpose(laws), "x", color="black", markersize=9, label="θ*, where neurons point along their own drift")
axes.set(xlabel="angle of w at the onset, rad", xlim=(-0.03, 1.6))
axes.set_title(f"Where weights have gone; {count}")
axes.legend(loc="upper left", bbox_to_anchor=(0, -0.06), frameon=False)
figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 100 networks in each cell: G's claim is *refuted* on all three paraboloids, where
# the angle to the tangent space is 0.568 [0.566, 0.570], 0.549 and 0.480 rad; it is θ* to 0.005 (*supported*), and 0.00003
# where the paraboloid is flat and goes through the origin. Weights converge to the span of the samples (slope -1.000:
# *supported*), and there each to its own drift. On the sphere and the ellipsoid they come to lie in a tangent space, and so
# does every vector of the span: *not discriminating*. Between flips of gates neurons turn to their drifts at the rate |D_a|
# (coefficient 0.989 to 1.012, *supported*), beside which gate share, alone at 1.7 on the sphere, has 0.009. Flips turn the
# drifts too: with them the coefficient of |D_a| is 0.8 to 2.5. What the results at hand say:

# %%
show_conclusions(verdicts)
