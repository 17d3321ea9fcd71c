# %% [markdown]
# # Was the winning part there from the start?
#
# **Question.** The lottery ticket hypothesis says that a network holds a small part which, trained alone from its own start,
# does as well. The race says which: the neurons of the highest handicap H = (|v₀| + |w₀| cos δ₀)²/4, known before training.
# Does how early such a part learns follow from ΣH; and how few neurons can stand for a trained network?
#
# `python analysis/tickets.py results/tickets tickets.png`, or cell by cell in an editor that knows `# %%`.

# %%
import sys

import mcrace
from mcrace.screen import show_cells, show_conclusions, show_verdicts

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/tickets", "tickets.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Gaussian inputs in pairs x, -x, a hundred neurons. After its training each network is merged and pruned to any
# number of neurons, and 34 parts of it are trained again from their own start: the tickets. Control: *lazy* networks; and for
# tickets the same ones on labels of another direction.

# %%
show_cells(results)

# %% [markdown]
# **Test.** In each network: the slope of -2τ at the onset on log ΣH over tickets of ten neurons, 1 ± 0.1; what merging to ten
# neurons costs, at most 0.01 of L₀; and the fewest neurons that keep the loss, at most half as many as in lazy networks.

# %%
verdicts = mcrace.test(results)
show_verdicts(verdicts)

# %% [markdown]
# **Figure.** How early each ticket comes to the onset, against its handicaps: on the labels it is for, and on others.

# %%
figure = mcrace.plot(results, "lottery-ticket", cell="main", statistics=False)
figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 400 networks in each cell: the slope is 1.000 [0.999, 1.002], and 0.353 on labels
# of another direction: *supported*. Tickets by H hold 99.8 % of the winners, those by a₀ 28 %. Merging to ten neurons costs
# nothing (4e-9 of L₀, lazy 0.064), and 2 % of the neurons are enough, 42 % in lazy networks: *supported*. Pruning without
# rescaling needs 83 %, and 87 % in lazy networks: it tells nothing. What the results at hand say:

# %%
show_conclusions(verdicts)
