"""winner-concentration: directions follow a spherical Cauchy law, winners one cut off (text G; THEORY.md, same name)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import (
    LEVEL,
    NO_CONTROL,
    Measured,
    is_plain_descent,
    judge_level,
    judge_mean,
    judge_measured,
    judge_uniform,
    report_measured,
    worst,
)
from mcrace.predictions.panels import COLOURS, CONTROL, INK, MAIN, Panel, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin
from mcrace.statistics.directional import DirectionalLaw, SphericalCauchy, VonMisesFisher
from mcrace.statistics.directional_tests import fit_p, likelihood_gain, log_likelihoods, uniform_p

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EARLY, LATE, GROWN = "tau=1.5", "tau=2", "tau=1"  # of all neurons, of winners, of the link to the start's variance
SHARES = (0.1, 0.25, 0.5)  # of the neurons that count as winners
FIRST, COMPETING = 0.25, 0.5
LEAST_NEURONS, LEAST_WINNING, LEAST_KAPPA = 300, 30, 30
LEAST_REJECTED = 0.9  # of the networks, for a law that is wrong


class ConcentrationOptions(Options):
    """Options of the prediction."""

    permuted: str = Field("", description="a further control cell: task.permute_labels = true")
    lazy: str = Field("", description="a further control cell: lazy networks")
    link_control: str = Field("", description="the control of cells with concentrated starts: task.permute_labels = true")
    margin: float = Field(0.05, gt=0, lt=1, description="of the gain of log-likelihood a neuron, and of the slope round 1")
    bootstraps: int = Field(199, ge=19, le=9999, description="samples of the parametric bootstrap in each network")

    @property
    def controls(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.control, self.permuted, self.lazy, self.link_control)))


@prediction("winner-concentration")
class WinnerConcentration(Prediction):
    """Balanced neurons with fixed gates turn towards the axis ±D of their sign, their angle δ to it by
    tan(δ/2) = tan(δ_0/2) e^{-τ}.  So directions that start uniform are not von Mises-Fisher, as text G has it, but have

        density ∝ ((1-ρ²)/(1+ρ²-2ρ cos δ))^{d-1},    ρ = tanh(τ/2),

    a spherical Cauchy law; in starts of equal norm winners are those with the smallest δ, and have this law cut off.  Starts
    that are concentrated already, within a small patch, gain in concentration κ what they gain in a = |v||w|:
    log(κ_t/κ_0) = log(a_t/a_0).

    Statistic, all neurons at τ = 1.5: what the Cauchy law gains a neuron over von Mises-Fisher's in log-likelihood, less what
    it should gain, 0 ± 0.05; and a goodness of fit by parametric bootstrap in each network, which keeps the one law in all
    but 1 of 20 networks, and rejects the other.  Winners at τ = 2: the same share of networks for the law cut off at the
    last winner, and all winners' places in it uniform; while the whole law, and von Mises-Fisher's with the κ of all
    neurons, are rejected in 90 %.  Link: per network, over both signs, the slope through 0 of log(κ_t/κ_0) on mean
    log(a_t/a_0) at τ = 1.  Controls: even labels, permuted labels, lazy networks.
    """

    options = ConcentrationOptions
    meaning = {
        "supported": "Directions are where the fixed-gate dilation of the start takes them: they follow the spherical Cauchy "
                     "law and not von Mises-Fisher's, or, from narrow starts, concentrate as they grow.",
        "refuted": "Directions are not where the law has them; a start that is wide for its dimension, κ₀ not well above d, "
                   "gains more in concentration than in norm product, and loses more where it loses.",
    }

    def needs(self, options: ConcentrationOptions) -> Needs:
        resultants = [f"resultant_{side}@{state}" for side in SIDES for state in ("start", GROWN)]
        products = [f"norm_product@{state}" for state in ("start", GROWN, LATE)]
        return Needs((f"direction@{EARLY}", f"axis_cosine@{LATE}", "drift_norm@start", "output_weight@start", *products,
                      *resultants))

    def judge(self, evidence: Evidence, options: ConcentrationOptions) -> list[Verdict]:
        config = evidence.main.config
        if not is_plain_descent(evidence.main) or not config["network"]["init"]["balanced"]:
            return self.not_testable(evidence, "the dilation is of balanced starts under plain descent at one step size")
        if dimension(evidence.main) < 2 or config["network"]["hidden"][0] < LEAST_WINNING:
            return self.not_testable(evidence, f"two inputs and {LEAST_WINNING} neurons are needed, at least")
        if config["network"]["init"]["direction"]:
            return self._link(evidence, options)
        if not config["task"].get("symmetric"):
            return self.not_testable(evidence, "gates do not matter only for samples in pairs x, -x (task.symmetric = true)")
        if evidence.control is None:
            return self.not_testable(evidence, NO_CONTROL)
        return [*self._winners(evidence, options), *self._all_neurons(evidence, options)]

    def panels(self, evidence: Evidence, options: ConcentrationOptions) -> list[Panel]:
        if evidence.main.config["network"]["init"]["direction"]:
            control = evidence.controls.get(options.link_control)
            cells = [(evidence.main, MAIN), *([(control, CONTROL)] if control else [])]
            return [Panel("What each sign of each network gains in concentration, against what it gains in norm product; "
                          "dashed: the law.", partial(draw_link, cells))]
        return [Panel("Angles of all neurons to the axis of the drift at τ = 2, the law of τ alone, and the von Mises-Fisher "
                      "law that fits best.", partial(draw_angles, evidence.main)),
                Panel("Places of the winners, the upper half at τ = 2, in three laws: where a law holds they are uniform, and "
                      "their share grows along the dashed line.", partial(draw_places, evidence.main))]

    def _winners(self, evidence: Evidence, options: ConcentrationOptions) -> list[Verdict]:
        if evidence.main.config["network"]["init"]["norms"] != "equal":
            return self.not_testable(evidence, 'winners are those nearest the axis only where norms are equal: norms = "equal"')
        main, control = evidence.main, evidence.control
        assert control is not None
        label = "winners, top {:g}: share of p ≤ 0.05{}".format
        levels = [judge_level(self, evidence, label(FIRST, beside), winners_p(main, FIRST), winners_p(cell, FIRST),
                              [main, cell], primary=not beside)
                  for beside, cell in _controls(evidence, options)]
        more = [judge_level(self, evidence, label(q, ""), winners_p(main, q), winners_p(control, q),
                            [main, control]) for q in SHARES if q != FIRST]
        pooled = judge_uniform(self, evidence, f"winners, top {FIRST:g}: all places, distance to uniform",
                               winners_places(main, FIRST).ravel(), winners_places(control, FIRST).ravel(),
                               control.name)
        rejected = [self._rejected(evidence, f"winners, top {q:g}: share that rejects {which}", other(main, q),
                                   winners_p(main, q))
                    for q, which, other in ((FIRST, "the law not cut off", whole_law_p),
                                            (COMPETING, "von Mises-Fisher", competitor_p))]
        return [worst([*levels, pooled, *rejected]), *levels[1:], *more, pooled, *rejected]

    def _all_neurons(self, evidence: Evidence, options: ConcentrationOptions) -> list[Verdict]:
        main = evidence.main
        if main.config["network"]["hidden"][0] < LEAST_NEURONS:
            return [Verdict(self.name, main.name, "all neurons", NOT_TESTABLE, note=f"{LEAST_NEURONS} neurons are needed")]
        margin = Margin(-options.margin, options.margin)
        gains = [judge_mean(self, evidence, f"all neurons: gain of log-likelihood less the law's{beside}", margin, excess_gain,
                            margin.misses, control=cell) for beside, cell in _controls(evidence, options)]
        cauchy = self._fits(evidence, main, SphericalCauchy, options)
        kept = [judge_level(self, evidence, f"all neurons: share that rejects the Cauchy law{beside}", cauchy,
                            self._fits(evidence, cell, SphericalCauchy, options), [main, cell])
                for beside, cell in _controls(evidence, options) if cell.name != options.lazy]
        other = self._rejected(evidence, "all neurons: share that rejects von Mises-Fisher",
                               self._fits(evidence, main, VonMisesFisher, options), cauchy)
        return [*gains, *kept, other]

    def _fits(
        self, evidence: Evidence, cell: CellResults, kind: type[DirectionalLaw], options: ConcentrationOptions
    ) -> Measured:
        """p-values of the goodness of fit of a law to the directions of all neurons of each network."""
        rng = evidence.rng(self.name, "goodness of fit", kind.label, cell.name)
        return Measured.of(cell, _of_complete(lambda X: fit_p(X, kind, rng, options.bootstraps)))

    def _rejected(self, evidence: Evidence, statistic: str, other: Measured, law: Measured) -> Verdict:
        """Whether another law is rejected in nearly all networks, beside the law itself, which is not."""
        margin = Margin(low=LEAST_REJECTED)
        main, control = (replace(p, values=np.where(np.isfinite(p.values), p.values <= LEVEL, np.nan)) for p in (other, law))
        return judge_measured(self, evidence, statistic, margin, main, control, margin.misses, cells=[evidence.main],
                              has_step_error=False)

    def _link(self, evidence: Evidence, options: ConcentrationOptions) -> list[Verdict]:
        control, config = evidence.controls.get(options.link_control), evidence.main.config
        kappa, statistic = config["network"]["init"]["direction"]["kappa"], "slope of log κ gain on log a gain"
        if kappa < LEAST_KAPPA:
            return self.not_testable(evidence, f"the link is for starts of κ₀ ≥ {LEAST_KAPPA}")
        if not config["task"].get("symmetric"):
            found = Measured.of(evidence.main, link_slopes)
            return [report_measured(self, evidence, f"{statistic}, drifts that differ", found)]
        if control is None:
            return self.not_testable(evidence, "concentrated starts have no control; name one by link_control, and run it")
        margin = Margin(1 - options.margin, 1 + options.margin)
        return [judge_mean(self, evidence, statistic, margin, link_slopes, margin.misses, control=control, primary=True)]


SIDES = {"positive": 1, "negative": -1}


@dataclass(frozen=True)
class Winners:
    """Cosines to the axis at τ = 2 [network, winner], falling, the clock τ [network], and the κ of all neurons [network]."""

    seeds: np.ndarray
    cosines: np.ndarray
    clock: np.ndarray
    kappa: np.ndarray
    dimension: int

    @classmethod
    def of(cls, cell: CellResults, share: float) -> Winners:
        """The neurons of the highest norm products of each network that got to τ = 2."""
        cosines, products = cell.at("axis_cosine", LATE), cell.at("norm_product", LATE)
        there = np.isfinite(cosines).all(axis=1) & np.isfinite(products).all(axis=1)
        cosines, products = cosines[there], products[there]
        d = dimension(cell)
        best = np.argsort(-products, axis=1, kind="stable")[:, : round(share * products.shape[1])]
        falling = -np.sort(-np.take_along_axis(cosines, best, axis=1), axis=1)
        kappa = VonMisesFisher.fit_cosines(cosines, d).concentration
        return cls(cell.seeds[there], falling, clocks(cell, LATE)[there], kappa, d)

    @property
    def law(self) -> SphericalCauchy:
        """What the clock alone says of all neurons."""
        return SphericalCauchy.shifted(self.clock, self.dimension)

    @property
    def shares_within(self) -> np.ndarray:
        """The share of that law within each winner's angle [network, winner]."""
        return self.law.within(np.sqrt((1 - self.cosines) / (1 + self.cosines)))

    @property
    def places(self) -> np.ndarray:
        """Places in the law cut off at the last winner, who is left out [network, winner]."""
        shares = self.shares_within
        return shares[:, :-1] / shares[:, -1:]

    @property
    def competing_places(self) -> np.ndarray:
        """The same in the von Mises-Fisher law with the κ of all neurons."""
        shares = 1 - VonMisesFisher(self.dimension, self.kappa).below(self.cosines)
        return shares[:, :-1] / shares[:, -1:]

    def p(self, cell: CellResults, shares: np.ndarray) -> Measured:
        """p-values of uniformity of what stands in the rows of these winners, for all seeds of the cell."""
        values = np.full(len(cell.seeds), np.nan)
        values[np.searchsorted(cell.seeds, self.seeds)] = uniform_p(shares)
        return Measured(cell.name, cell.seeds, values)


def winners_p(cell: CellResults, share: float) -> Measured:
    """p-values of the law cut off at the last winner, for each network."""
    winners = Winners.of(cell, share)
    return winners.p(cell, winners.places)


def winners_places(cell: CellResults, share: float) -> np.ndarray:
    """Places of the winners in that law [network, winner]."""
    return Winners.of(cell, share).places


def whole_law_p(cell: CellResults, share: float) -> Measured:
    """p-values of the law that is not cut off."""
    winners = Winners.of(cell, share)
    return winners.p(cell, winners.shares_within)


def competitor_p(cell: CellResults, share: float) -> Measured:
    """p-values of the von Mises-Fisher law with the κ of all neurons, cut off at the last winner."""
    winners = Winners.of(cell, share)
    return winners.p(cell, winners.competing_places)


def dimension(cell: CellResults) -> int:
    """d, the number of inputs."""
    return int(cell.at("direction", EARLY).shape[2])


def clocks(cell: CellResults, state: str) -> np.ndarray:
    """The clock τ = k log(1 + η|D|) of each network at a state; NaN where it was not reached (THEORY.md, Notation)."""
    steps = cell.state_step(state)
    rate = cell.config["training"]["step_size"] * np.median(cell.at("drift_norm", "start"), axis=1)
    return np.where(steps < 0, np.nan, steps) * np.log1p(rate)


def excess_gain(cell: CellResults) -> np.ndarray:
    """Log-likelihood a neuron, spherical Cauchy less von Mises-Fisher, less its mean under the law, for each network."""
    gain = _of_complete(lambda X: log_likelihoods(X, SphericalCauchy) - log_likelihoods(X, VonMisesFisher))(cell)
    law = SphericalCauchy.shifted(np.nan_to_num(clocks(cell, EARLY)), dimension(cell))
    return gain - likelihood_gain(law)


def gains(cell: CellResults, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean log(a_t/a_0) and log(κ_t/κ_0) at τ = 1 of the neurons of a sign of v, for each network."""
    d, mine = dimension(cell), cell.at("output_weight", "start") * SIDES[side] > 0
    grown = np.log(cell.at("norm_product", GROWN) / cell.at("norm_product", "start"))
    kappas = [VonMisesFisher.fit_cosines(np.nan_to_num(cell.at(f"resultant_{side}", state))[:, None], d).concentration
              for state in ("start", GROWN)]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.sum(np.where(mine, grown, 0), axis=1) / mine.sum(axis=1)
        found = np.log(kappas[1] / kappas[0])
    return mean, np.where(np.isfinite(found), found, np.nan)


def link_slopes(cell: CellResults) -> np.ndarray:
    """The slope through 0 of log(κ_t/κ_0) on log(a_t/a_0) over the two signs, for each network."""
    x, y = np.stack([gains(cell, side) for side in SIDES], axis=1)
    return np.sum(x * y, axis=0) / np.sum(x * x, axis=0)


def _of_complete(measure: Callable[[np.ndarray], np.ndarray]) -> Callable[[CellResults], np.ndarray]:
    """What a measure of directions [network, neuron, input] gives for the networks that have all; NaN for the others."""

    def of(cell: CellResults) -> np.ndarray:
        X = cell.at("direction", EARLY)
        there = np.isfinite(X).all(axis=(1, 2))
        values = np.full(len(X), np.nan)
        if there.any():
            values[there] = measure(X[there])
        return values

    return of


def _controls(evidence: Evidence, options: ConcentrationOptions) -> list[tuple[str, CellResults]]:
    """The controls of uniform starts that there are, and what is said of those beside the first."""
    said = {options.control: "", options.permuted: ", control: permuted labels", options.lazy: ", control: lazy"}
    return [(text, evidence.controls[name]) for name, text in said.items() if name in evidence.controls]


def draw_angles(cell: CellResults, axes: Axes) -> None:
    """Density of the angles of all neurons to the axis at τ = 2, and of two laws."""
    everyone = Winners.of(cell, 1.0)
    angles = np.degrees(np.arccos(everyone.cosines))
    axes.hist(angles.ravel(), bins=180, range=(0, 180), density=True, color=MAIN, alpha=0.35, label="neurons")
    grid = np.linspace(0.5, 179.5, 359)
    cosines, d = np.cos(np.radians(grid))[None], everyone.dimension
    kinds = (SphericalCauchy.shifted(np.median(everyone.clock), d), VonMisesFisher(d, np.array([np.median(everyone.kappa)])))
    for law, colour, line in zip(kinds, (INK, CONTROL), ("-", "--")):
        found = np.exp(law.log_density(cosines)[0]) * np.sin(np.radians(grid)) ** (d - 2)
        label = f"{law.label}, " + (f"ρ = {law.concentration[0]:.3f}" if colour == INK else f"κ = {law.concentration[0]:.0f}")
        axes.plot(grid, found / np.sum(found) / (grid[1] - grid[0]), color=colour, linestyle=line, label=label)
    most = np.quantile(angles, 0.999)
    axes.set(xlim=(0, most), xlabel="angle δ to the axis at τ = 2, degrees", ylabel="density, per degree")
    legend_above(axes, f"{cell.name}: n = {len(angles):,} networks, {angles.size:,} neurons", columns=1)


def draw_places(cell: CellResults, axes: Axes) -> None:
    """The share of winners below each place, in the law cut off, in the whole law, and in the competing one."""
    winners = Winners.of(cell, COMPETING)
    grid = np.linspace(0, 1, 201)
    for places, colour, label in ((winners.places, MAIN, "spherical Cauchy, cut off at the last winner"),
                                  (winners.shares_within, COLOURS[3], "spherical Cauchy, whole"),
                                  (winners.competing_places, CONTROL, "von Mises-Fisher with the κ of all, cut off")):
        below = np.searchsorted(np.sort(places.ravel()), grid, side="right") / places.size
        axes.plot(grid, below, color=colour, label=label)
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", label="a law that holds")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="place in the law, from the axis outwards, pure number",
             ylabel="share of winners below, pure number")
    legend_above(axes, f"{cell.name}: n = {len(winners.seeds):,} networks", columns=1)


def draw_link(cells: list[tuple[CellResults, str]], axes: Axes) -> None:
    """Gains in concentration against gains in norm product, a point for each sign of each network, cells in their colours."""
    for cell, colour in cells:
        for side, mark, label in zip(SIDES, ("o", "s"), (f"{cell.name} (squares: v < 0)", None)):
            axes.plot(*gains(cell, side), mark, color=colour, markersize=3.5, alpha=0.5, markeredgewidth=0, label=label)
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color="0.5", linestyle="--", label="the law: equal")
    axes.set(xlim=(low, high), xlabel="mean log(a / a₀) at τ = 1, pure number", ylabel="log(κ / κ₀) at τ = 1,\npure number")
    legend_above(axes, f"n = {min(len(cell.seeds) for cell, _ in cells):,} networks a cell", columns=1)
