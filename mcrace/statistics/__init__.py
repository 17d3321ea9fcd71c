"""Statistics of networks: one number a network, resampled, tested against margins, and corrected for many tests.

`within` reduces many neurons to one number a network; the others take one number a network: `equivalence` (margins, tests
of means, ratios and slopes), `resampling` (their intervals), `counting` (medians, shares), `paired`, `permutation`,
`censoring`, `power`, `multiplicity`.  `directional` has laws of directions, `directional_tests` tests of them.
"""

from mcrace.statistics.censoring import Survival, harrell_c, logrank_p, survival
from mcrace.statistics.counting import median_interval, median_p, share_interval, share_p
from mcrace.statistics.equivalence import Interval, Margin, equivalence_p, ratio_p, slope_p
from mcrace.statistics.multiplicity import benjamini_hochberg, holm
from mcrace.statistics.paired import differences, paired_equivalence_p, signed_rank
from mcrace.statistics.permutation import permutation_p, permuted_slopes, permuted_statistic, shuffled_within
from mcrace.statistics.power import equivalence_power, networks_needed
from mcrace.statistics.resampling import mean_interval, ratio_interval, slope_interval
from mcrace.statistics.within import (
    log_slopes,
    partial_spearman_within,
    slopes_within,
    slopes_within_many,
    slopes_within_two,
    spearman_within,
    top_jaccard,
)

__all__ = ["Interval", "Margin", "Survival", "benjamini_hochberg", "differences", "equivalence_p",
           "equivalence_power", "harrell_c", "holm", "log_slopes", "logrank_p", "mean_interval", "median_interval", "median_p",
           "networks_needed", "paired_equivalence_p", "partial_spearman_within", "permutation_p", "permuted_slopes",
           "permuted_statistic", "ratio_interval", "ratio_p", "share_interval", "share_p", "shuffled_within",
           "signed_rank", "slope_interval", "slope_p", "slopes_within", "slopes_within_many", "slopes_within_two",
           "spearman_within", "survival", "top_jaccard"]
