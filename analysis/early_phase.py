# %% [markdown]
# # Do neurons align in silence?
#
# **Question.** Text R says that alignment comes before the loss drops. From a start of scale s the norm has to grow by
# log(1/s) first, and alignment does not wait for it: so the onset of the loss should come later as log(1/s), and the time at
# which alignment has risen by half should not depend on s. And how fast do neurons align that start with |w| unlike |v|?
#
# `python analysis/early_phase.py results/early-phase early_phase.png`, or cell by cell in an editor that knows `# %%`.

# %%
import sys

import numpy as np

import mcrace

GIVEN = len(sys.argv) == 3 and "ipykernel" not in sys.modules
WHERE, PICTURE = sys.argv[1:3] if GIVEN else ("results/early-phase", "early_phase.png")
results = mcrace.open_results(WHERE)

# %% [markdown]
# **Data.** Gaussian inputs in pairs x, -x; scales from 1e-6 to 1e-2, and the control at 1 and 4; ratios |w|/|v| from 1/8 to
# 8.

# %%
for cell in results:
    if cell.attributes["role"] != "half-step":
        print(f"{cell.name:>16} ({cell.attributes['role']}): {len(cell.seeds):5,} networks, "
              f"{np.median(cell['stop_step']):6.0f} steps")

# %% [markdown]
# **Test.** In each network: the slope of τ at the onset on log(1/s), 1 ± 0.06; the slope of τ at half the rise of alignment,
# 0 ± 0.05; and the time of half alignment against its closed form, within 5 %, where the balanced form must be off by more
# than half.

# %%
verdicts = mcrace.test(results)
for v in verdicts:
    if v.primary or v.verdict in ("supported", "refuted"):
        print(f"{v.prediction:18} {v.cell:14} {v.statistic:44} {v.estimate:9.3g} [{v.low:.3g}, {v.high:.3g}]  "
              f"margin {v.margin!s:12} {v.verdict}")

# %% [markdown]
# **Figure.** When the loss begins to drop, and when alignment has risen by half, against the scale of the start.

# %%
figure = mcrace.plot(results, "early-phase", statistics=False)
figure.savefig(PICTURE, dpi=130)

# %% [markdown]
# **Conclusion.** On 22 November 2026, with 200 networks in each cell: the onset comes later with slope 0.988 [0.988, 0.988],
# alignment keeps its time (slope 0.0011): *supported*. The closed form holds to 0.12 % from |w|/|v| = 1/8 to 8, and the
# balanced one is off by 86 % at the better of the two ends: *supported*. What the results at hand say:

# %%
for v in verdicts:
    if v.primary:
        print(f"{v.prediction} is {v.verdict} on {v.cell}: {v.statistic} {v.estimate:.3g}"
              + (f", {v.control.estimate:.3g} in {v.control.cell}" if v.control else "") + (f". {v.note}" if v.note else ""))
