"""Statistics of networks: one number a network, resampled, tested against margins, and corrected for many tests."""

from mcrace.statistics.equivalence import Interval, Margin, equivalence_p
from mcrace.statistics.multiplicity import benjamini_hochberg, holm
from mcrace.statistics.resampling import mean_interval, permutation_p, permuted_slopes, slopes_within, spearman_within

__all__ = ["Interval", "Margin", "benjamini_hochberg", "equivalence_p", "holm", "mean_interval", "permutation_p",
           "permuted_slopes", "slopes_within", "spearman_within"]
