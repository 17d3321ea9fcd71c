# %% [markdown]
# # Does it survive depth?
#
# **Question.** All derivations of the race have one hidden layer. In deeper networks, on the same tasks: do neurons race,
# align, and leave as much capacity as the task needs, in every hidden layer?
#
# `python analysis/depth.py results/depth depth.png`, or cell by cell in an editor that knows `# %%`; `results/depth-quick` is
# the same in ten minutes.

# %%
import sys
from collections import Counter

from matplotlib.figure import Figure

import mcrace
from mcrace.predictions.layer_table import WORDS, draw_layers, entries, networks_of, points_of
from mcrace.screen import show_cells, show_conclusions

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/depth-quick", "depth.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Networks of one to five hidden layers on each task, from small starts: the scale is that of every layer. Control:
# lazy ones, of scale 1 with the output at the start subtracted. All are compared where a tenth of the loss is left.

# %%
show_cells(results)

# %% [markdown]
# **Test.** In each layer: whether the score at the layer's own clock says more of the norm in the end than the norm then does
# (partial rank correlation at least 0.2, and above lazy); the gain of alignment (at least 0.3); capacity, stable rank (at
# most half of lazy); tickets chosen before training. Each claim carries over, weakens to a part of what it is in one layer,
# or fails; in how many layers:

# %%
verdicts = mcrace.test(results)
table = entries(verdicts, {cell.name: cell.config for cell in results})
for task in dict.fromkeys(e.task for e in table):
    print(f"\n{task}")
    for claim in dict.fromkeys(e.claim for e in table if not e.verdict.primary):
        for depth in sorted({e.depth for e in table}):
            some = [e.becomes for e in table if (e.task, e.claim, e.depth) == (task, claim, depth) and e.becomes]
            words = Counter(next(word for word in WORDS if text.startswith(word)) for text in some)
            if some:
                print(f"  {claim:48} depth {depth}: " + ", ".join(f"{word} {n}" for word, n in words.items()))

# %% [markdown]
# **Figure.** Five of the claims in every layer, by depth and by the scale of the start: mean and interval, filled where
# supported; dashed the margin, grey the control.

# %%
CLAIMS = {"partial rank correlation of score and a_T": "racing: partial rank correlation",
          "gain of alignment A": "gain of alignment A", "K_merge, ratio main/control": "K_merge over that of lazy",
          "stable rank, ratio main/control": "stable rank over that of lazy",
          "tickets among the winners": "share of tickets that win"}
tasks = list(dict.fromkeys(e.task for e in table))
figure = Figure(figsize=(3.2 * len(CLAIMS), 3 * len(tasks) + 0.5), layout="constrained")
for row, task in zip(figure.subplots(len(tasks), len(CLAIMS), squeeze=False), tasks):
    for axes, (claim, label) in zip(row, CLAIMS.items()):
        found = [e for e in table if (e.task, e.claim) == (task, claim)]
        points, lazy = points_of(found)
        draw_layers(points, lazy, found[0].verdict.margin, axes)
        axes.set_ylabel(f"{label},\npure number")
        axes.set_title(f"{task} (n = {networks_of(points)} a point)", fontsize="medium")
handles, labels = axes.get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** What the results at hand say:

# %%
show_conclusions([v for v in verdicts if v.primary])
