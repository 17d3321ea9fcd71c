# %% [markdown]
# # Are the directions of winners von Mises-Fisher?
#
# **Question.** Text G says that the directions of winners follow a von Mises-Fisher law, with a concentration that the
# variance of the start decides. But while gates stay, the angle δ of a balanced neuron to its drift falls as
# tan(δ/2) = tan(δ₀/2) e^{-τ}: uniform directions become a *spherical Cauchy* law with ρ = tanh(τ/2), and winners one that is
# cut off. Which of the two do real networks follow, and what does concentration have to do with growth?
#
# `python analysis/concentration.py results/concentration concentration.png`, or cell by cell in an editor that knows `# %%`.

# %%
import sys

from matplotlib.figure import Figure
from matplotlib.style import context

import mcrace
from mcrace.predictions.panels import COLOURS, CONTROL, MAIN
from mcrace.predictions.winner_concentration import draw_angles, draw_link, draw_places
from mcrace.report.figures import STYLE
from mcrace.screen import show_cells, show_conclusions, show_verdicts

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/concentration", "concentration.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Networks of 300 neurons on ten inputs, samples in pairs x, -x with odd labels, so that the drift is the same for
# every gate pattern. Starts of equal norm in uniform directions; *concentrated* starts, von Mises-Fisher round one axis, narrow
# (κ₀ = 300) and wide (30). Controls: even labels, permuted labels, lazy networks.

# %%
show_cells(results)

# %% [markdown]
# **Test.** In each network: which law the directions of all neurons follow at τ = 1.5, by a parametric bootstrap of 199
# samples and by log-likelihood; whether winners at τ = 2 follow the spherical Cauchy law cut off at the last of them; and
# the slope of log(κ/κ₀) on log(a/a₀) at τ = 1. A law that holds is rejected in 1 of 20 networks, and not in more.

# %%
verdicts = mcrace.test(results)
show_verdicts(verdicts)

# %% [markdown]
# **Figure.** Left: angles of all neurons to the axis, the law of τ alone, and the best von Mises-Fisher law. Middle: the
# upper half of the neurons by norm product, by their place in three laws; a law that holds is the dashed line. Right: what
# each sign of each network gains in concentration, against what it gains in norm product.

# %%
colours = {"concentrated-permuted": CONTROL, "concentrated-wide": COLOURS[2], "concentrated": MAIN}
with context(STYLE):
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    angles, places, link = figure.subplots(1, 3)
    draw_angles(results.cell("main"), angles)
    draw_places(results.cell("main"), places)
    draw_link([(results.cell(name), colour) for name, colour in colours.items()], link)
    figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 100 networks in each cell: no von Mises-Fisher law. The spherical Cauchy law, cut
# off, is rejected for the winners of 5 of 100 networks, as a true law is, and of all networks with even or permuted labels or
# lazy weights; von Mises-Fisher is rejected for the winners of 99 and for all neurons of 100: *supported*. The link holds for
# narrow starts, slope 1.012 [1.011, 1.012], and is *refuted* for wide ones, 1.115 [1.110, 1.121]: it is the law of a small
# patch of directions, so κ₀ has to be large beside the dimension, not beside 30; a wide start concentrates by more than it
# grows, and where it shrinks it spreads by more. What the results at hand say:

# %%
show_conclusions(verdicts)
