# %% [markdown]
# # Do the norms of normalised neurons race for a given sum?
#
# **Question.** A layer that is normalised over its units does not change with the size of its incoming weights W. Then |W|²
# is conserved by the flow, and what one neuron wins another loses. Does it, and what does the roughness E of Bayesian
# R-LayerNorm take from the growth of outgoing weights?
#
# `python analysis/normalised_growth.py results/normalised-growth normalised_growth.png`, or cell by cell in an editor that
# knows `# %%`.

# %%
import sys

from matplotlib.figure import Figure

import mcrace
from mcrace.predictions.panels import CONTROL, MAIN, rows
from mcrace.screen import show_cells, show_conclusions, show_verdicts

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/normalised-growth", "normalised_growth.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Handwritten 3 against 8, in float64, every step recorded. Three normalisations with eps = 0 start with |w| = 0.1 and
# |v| = 1e-7; the control is not normalised, and starts small and balanced.

# %%
show_cells(results)

# %% [markdown]
# **Test.** In each network: the growth of |W|² over Σ η²|∂L/∂W|², what a step of descent adds at right angles (1 ± 1e-3); the
# slope of its log on log η (1 ± 0.05), so that nothing is left as η goes to 0; the slope of log|v(t) - v(0)| on log t before
# the loss has dropped by 1 % (1 ± 0.05); the projected growth against its law; and how well E tells noisy images from clean.

# %%
verdicts = mcrace.test(results)
show_verdicts(verdicts)

# %% [markdown]
# **Figure.** Left: growth of outgoing weights, linear where layers are normalised. Middle: how much more |W|² grows than steps
# at right angles to it explain. Right: noisy images told by E of the input, of the input with its pixels in a random order,
# and of h.

# %%
cells = [c for c in results if c.attributes["role"] != "half-step"]
colours = [CONTROL if c.attributes["role"] == "control" else MAIN for c in cells]
figure = Figure(figsize=(12, 3.4), layout="constrained")
slope, growth, told = figure.subplots(1, 3)
count = rows(slope, [(c.name, colour, c["early_growth_slope"]) for c, colour in zip(cells, colours)])
slope.axvline(1, color="0.5", linestyle="--")
slope.set(xlabel="slope of log|v(t) − v(0)| on log t", title=f"Growth of outgoing weights\n{count}")
ratios = [c["incoming_growth"] / c["incoming_growth_predicted"] for c in cells]
count = rows(growth, [(c.name, colour, ratio) for c, colour, ratio in zip(cells, colours, ratios)])
growth.axvline(1, color="0.5", linestyle="--")
growth.set(xscale="log", xlabel="growth of |W|² / Σ η²|∂L/∂W|²", title=f"Growth of incoming weights\n{count}")
areas = next(c for c in cells if c.name == "bayesian").at("roughness_auc", "final")
labels = ("input", "pixels in random order", "h")
count = rows(told, [(label, MAIN if label == "input" else CONTROL, areas[:, k]) for k, label in enumerate(labels)])
told.axvline(0.8, color="0.5", linestyle="--")
told.set(xlabel="area under the ROC curve", xlim=(0, 1.02), title=f"Noise 0.5 told by E\n{count}")
figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 200 networks in each cell: |W|² grows by what the steps add, to 1.000, and as the
# first power of the step (1.002), under each of the three normalisations: incoming norms race for a given sum, of which 12 %
# changed hands (*supported*; networks without normalisation grow 400 times as much). Outgoing weights grow linearly at first
# (slope 0.998 to 1.002, exponentially without normalisation), and Bayesian R-LayerNorm takes from that growth what the law
# says, to 3e-8. E of the input tells noisy images (0.983), E of h does not at the start (0.496); but networks that are
# trained through E of h learn to: 0.695, *refuted*. What the results at hand say:

# %%
show_conclusions(verdicts)
