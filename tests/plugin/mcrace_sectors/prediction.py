"""concentration: a tenth of the neurons comes to hold most of the norm."""

import mcrace
from mcrace.predictions import Needs, Prediction, judge_mean
from mcrace.statistics import Margin


@mcrace.prediction("concentration")
class Concentration(Prediction):
    """The largest tenth of the neurons gains at least 0.1 of the sum of all norm products; lazy networks less than 0.05."""

    law = "S(T) - S(0) ≥ 0.1,  S the share of the largest tenth"

    def needs(self, options):
        return Needs(("top_share@start", "top_share@level=0.1"))

    def judge(self, evidence, options):
        gain = lambda cell: cell.at("top_share", "level=0.1") - cell.at("top_share", "start")
        return [judge_mean(self, evidence, "gain of the top share", Margin(low=0.1), gain,
                           control_fails=lambda interval: interval.high < 0.05, primary=True)]
