# %% [markdown]
# # From lazy to rich: what does the size of the start change?
#
# **Question.** Networks that start large move little: lazy. Those that start small learn features: rich. At which scale of
# the start do neurons race and align, and what do the usual measures of laziness say there?
#
# `python analysis/init_scale.py results/init-scale init_scale.png`, or cell by cell in an editor that knows `# %%`.

# %%
import sys

import numpy as np
from matplotlib.figure import Figure

import mcrace
from mcrace.screen import show_cells, show_conclusions, show_verdicts

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/init-scale", "init_scale.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Handwritten 3 against 8; |w| from 1e-6 to 1 at the start, and the control in cancelling pairs.

# %%
show_cells(results)

# %% [markdown]
# **Test.** At each scale: the slope of the law of the race (1 ± 0.1), and the gain of alignment (at least 0.3). Beside them,
# at equal loss, how far the tangent kernel, the gates and the parameters are from their start, and the test accuracy.

# %%
verdicts = mcrace.test(results)
show_verdicts(verdicts)

# %% [markdown]
# **Figure.** How far networks have moved when a tenth of the loss is left, against the scale of the start: medians and nine
# tenths of the networks.

# %%
MEASURES = {"kernel_distance": "tangent kernel", "gate_distance": "gates", "parameter_distance": "parameters"}
cells = sorted((c for c in results if c.attributes["role"] == "main"), key=lambda c: c.config["network"]["init"]["scale"])
scales = [c.config["network"]["init"]["scale"] for c in cells]
lazy = {name: np.nanpercentile(results.cell("lazy").at(name, "level=0.1"), [5, 50, 95]) for name in MEASURES}
figure = Figure(figsize=(10, 3.2), layout="constrained")
for axes, (name, label) in zip(figure.subplots(1, 3), MEASURES.items()):
    low, middle, high = np.array([np.nanpercentile(c.at(name, "level=0.1"), [5, 50, 95]) for c in cells]).T
    axes.fill_between(scales, low, high, color="#0072b2", alpha=0.25, linewidth=0)
    axes.plot(scales, middle, "o-", color="#0072b2")
    axes.set(xscale="log", xlabel="scale of the start, |w|", ylabel="distance from the start, pure number",
             title=f"{label}\n(n = {len(cells[0].seeds):,} networks a scale)")
    axes.errorbar(1, lazy[name][1], np.abs(lazy[name][[0, 2]] - lazy[name][1])[:, None], fmt="s", color="#d55e00",
                  label="control: lazy")
    axes.set_yscale("log" if name == "parameter_distance" else "linear")
    axes.legend(frameon=False)
figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 32 to 40 networks in each cell: the law of the race is *supported* up to a scale
# of 0.1 (slope 1.01, and 0.96 there) and *refuted* at 1 (0.150, as lazy as the control's 0.139); alignment is *supported* up
# to 0.01. The tangent kernel moves by 0.17 at small scales, 0.16 at 0.1, and 0.015 at 1; the test accuracy is 0.958 to 0.963
# at small scales and 0.98 from 0.1 on. What the results at hand say:

# %%
show_conclusions(verdicts)
