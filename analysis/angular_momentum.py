# %% [markdown]
# # Is an angular momentum conserved, and does it keep neurons in order?
#
# **Question.** Text G says that on tasks with a rotation symmetry an angular momentum of the neurons is conserved, and that
# this constrains how they can rearrange. Is there anything to conserve? And what keeps the order of directions?
#
# `python analysis/angular_momentum.py results/angular-momentum angular_momentum.png`, or cell by cell in an editor that knows
# `# %%`.

# %%
import sys

import mcrace
from mcrace.predictions import cases
from mcrace.report.figures import together
from mcrace.screen import show_cells, show_conclusions, show_verdicts

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/angular-momentum", "angular_momentum.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Labels |x| of Gaussian inputs in four dimensions, on 300 to 2,700 samples and as many fresh ones; the same with
# the symmetry broken, by other labels, by the law of the inputs, and by ε x_1; samples in the plane with the symmetry of a
# polygon; labels x |x| that are vectors; networks that learn from the population itself, in closed form, by descent in the
# plane and as heavy balls; and in the plane three balances of |w| and |v| on three tasks, of which one has the symmetry.

# %%
show_cells(results)

# %% [markdown]
# **Test.** J of the population in closed form (below 1e-14); how j falls with the samples (slope -0.5 ± 0.1) and with the
# order of the symmetry (-1 ± 0.1); Hotelling's test on fresh samples, whose share of p < 0.05 has to lie in the binomial band
# round 0.05; of a heavy ball J_k = μ^k J_0 (to 1e-10), in the plane the area Σ∫|w|²dφ = 0 (to 0.01); and the share of groups
# of neurons in which one overtakes another.

# %%
verdicts = mcrace.test(results)
show_verdicts(verdicts)

# %% [markdown]
# **Figure.** On top j against the number of samples, and how often Hotelling's test finds an angular momentum; below in how
# many networks the order of directions breaks.

# %%
panels = [panel for prediction, options, evidence in cases(results) for panel in prediction.panels(evidence, options)]
together(panels).savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 200 networks in each cell: J of the population is 0 to rounding (2e-17; 0.183 on
# linear labels), falls as N to the -0.491 and n to the -0.983, and Hotelling's test finds it in 5.0 % of networks:
# *supported*. So is the rest of what follows from it: where labels are vectors, J of both layers passes the test (5.5 %) and
# that of the input weights fails it in all networks; a heavy ball on the population has J_k = μ^k J_0 to 7e-14, and in the
# plane the neurons sweep an area of 0 to 2e-16 (0.186 of all they sweep on linear labels). But it is 0 for any weights, so
# there is nothing to conserve, and on its own samples a network ends with j of 0.241: text G's claim is *refuted*. In the
# plane balanced neurons never overtake each other on any task, and from |v| = 2|w| they do in 31 to 87 % of the groups, in
# 41 % where J = 0: balance keeps the order, and not the momentum. From |w| = 2|v| some do, too, on quadratic labels (6 %).
# What the results at hand say:

# %%
show_conclusions(verdicts)
for v in verdicts:
    if v.statistic.startswith("text G"):
        print(f"{v.statistic} is {v.verdict} on {v.cell}: {v.note}")
