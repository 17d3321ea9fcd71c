"""tangent-convergence: weights converge to the tangent space of the data manifold (text G; THEORY.md, tangent-convergence)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import NOT_TESTABLE, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import Measured, judge_mean, judge_measured, median_of, report_measured, worst
from mcrace.predictions.limiting_angle import limiting_angle
from mcrace.predictions.panels import COLOURS, INK, MAIN, Panel, density_of_law, legend_above, rows
from mcrace.results import CellResults
from mcrace.statistics import Margin, shuffled_within, slopes_within_many

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT, LATER = "onset", "level=0.5"
WAY = ("start", "tau=1", LIMIT)
MANIFOLDS = ("subspace", "sphere", "ellipsoid", "torus", "swiss-roll", "paraboloid")
WITH_CENTRE = ("subspace", "paraboloid")  # whose data have a mean with one nearest point
BASES = {"active": "at the neuron's active samples (A)", "centre": "at the centre (B)", "nearest": "nearest of all (C)"}
DRIFT = "log |D_a|"
LARGEST_SCALE = 1e-4
DRAWN = (-0.5, 0.5)
Measure = Callable[[CellResults], np.ndarray]


class TangentOptions(Options):
    """Options of the prediction."""

    angle: float = Field(0.03, gt=0, lt=1, description="half width of the margin of limiting angles, in rad")
    slope: float = Field(1e-3, gt=0, lt=1, description="half width of the margin of the slope to the span round -1")
    rate: float = Field(0.05, gt=0, lt=1, description="half width of the margin of the coefficients of the rate")


@prediction("tangent-convergence")
class TangentConvergence(Prediction):
    """Text G says that weight vectors converge exponentially to the tangent space of the data manifold, at a rate set by local
    curvature and gating.  What follows from the flow is another thing: they converge to the span of the samples, as

        d log sin θ / d log |w| = -1,

    and within it to their drift, at an angle to the tangent space that is not 0 where the manifold is curved or does not go
    through the origin; on a paraboloid (off, u, (c/2)|u|²) with labels sign(b·u)

        tan θ* = √((off E[g r])² + ((c/2) E[g r |u|²])²) / |E[g r u]|,

    g the gate of a neuron that points along its own drift; and each turns to its drift at the rate |D_a|, in which alone
    curvature and gating enter.

    Statistics at the onset of the loss, from small starts: per network, the median over living neurons of the angle to the
    tangent space, at most 0.03 rad if G is right, beside the same at t = 0, and beside the start's part in the span of the
    samples; on a paraboloid the angle less θ*, ± 0.03, beside a control that is flat and goes through the origin.  The base
    point is the centre of the data (a paraboloid's apex), or, on manifolds without one, that of the nearest tangent space over
    all samples.  Rate: -d log tan(δ_a/2)/dt between flips of gates, which turn the drift, over 0.5 <= τ <= 2, τ = ∫|D_a| dt;
    per network, least squares of its logarithm on log |D_a|, curvature and gate share.  Control: |D_a| shuffled within each
    network.

    The point nearest to the neuron's own active samples says nothing on a sphere round the origin: there every vector is
    radial at its own foot point, and so at right angles to that tangent space.
    """

    options = TangentOptions
    law = "tan θ* = √((off E[g r])² + ((c/2) E[g r |u|²])²) / |E[g r u]|,   -d log tan(δ/2)/dt = |D_a|"
    meaning = {
        "supported": "Weights come to lie in the tangent space, which vectors in the span of the samples need not do.",
        "not discriminating": "Weights come to lie in a tangent space, but so does every vector in the span of these samples: "
                              "this says no more than that weights turn into the span.",
        "refuted": "Weights do not converge to the tangent space: they converge to the span of the samples, and there each to "
                   "its own drift, which stands at a fixed angle to the tangent space where the manifold is curved or passes "
                   "the origin by.",
    }

    def needs(self, options: TangentOptions) -> Needs:
        names = [*(f"tangent_sine_{base}" for base in BASES), "cone_sine_centre"]
        at_limit = [f"{name}@{state}" for state in ("start", LIMIT) for name in (*names, "drift_sine_centre")]
        later = [f"tangent_sine_{base}@{LATER}" for base in BASES]
        way = [f"{name}@{state}" for state in WAY for name in ("span_sine", "tangent_sine_centre", "input_norm", "active")]
        paths = ("turning_rate", "turning_rate_whole", "turning_drift", "turning_curvature", "turning_gates")
        return Needs(tuple(dict.fromkeys([*at_limit, *later, *way, f"active@{LATER}", *paths])))

    def judge(self, evidence: Evidence, options: TangentOptions) -> list[Verdict]:
        config = evidence.main.config
        if config["task"]["kind"] not in MANIFOLDS:
            return self.not_testable(evidence, f"the samples come from no manifold; task.kind: {', '.join(MANIFOLDS)}")
        if (scale := config["network"]["init"]["scale"]) > LARGEST_SCALE:
            return self.not_testable(evidence, f"at network.init.scale = {scale:g} the loss drops before neurons have turned; "
                                     f"{LARGEST_SCALE:g} at most")
        return [*self._limits(evidence, options), *self._rates(evidence, options), *self._reported(evidence)]

    def panels(self, evidence: Evidence, options: TangentOptions) -> list[Panel]:
        if evidence.main.config["task"]["kind"] not in MANIFOLDS:
            return []
        return [Panel("The angle of weights to the span of the samples and to tangent spaces, at the start and when the loss "
                      "begins to drop; dashed: the limit θ* on this paraboloid." if law_of(evidence.main) is not None else
                      "The angle of weights to the span of the samples and to tangent spaces, at the start and when the loss "
                      "begins to drop.", partial(_draw_angles, evidence), rows=9),
                Panel("How fast neurons turn to their drifts, against |D|, both less their means in the network.",
                      partial(_draw_rates, evidence.main))]

    def _limits(self, evidence: Evidence, options: TangentOptions) -> list[Verdict]:
        main, base, small = evidence.main, base_of(evidence.main), Margin(high=options.angle)
        zero = Margin(-options.angle, options.angle)
        angle = partial(angles, f"tangent_sine_{base}")
        row = lambda name, control, primary=False: judge_mean(
            self, evidence, f"angle to T {BASES[base]}{name} [rad]", small, angle, small.misses, control, main, primary)
        at_start, in_span = (row("", lambda c: angle(c, "start"), primary=True),
                             row(", control: starts in the span", partial(start_in_span, f"tangent_sine_{base}")))
        found = [worst([at_start, in_span]), in_span]
        if main.config["task"]["kind"] == "paraboloid":
            found += self._of_paraboloid(evidence, zero)
        if base == "centre":
            drift = lambda c, state=LIMIT: angle(c, state) - angles("drift_sine_centre", c, state)
            found.append(judge_mean(self, evidence, "angle to T of w less that of D_a [rad]", zero, drift, zero.misses,
                                    lambda c: drift(c, "start"), main))
        span = Margin(-1 - options.slope, -1 + options.slope)
        slope = judge_mean(self, evidence, "slope of log sin θ to the span on log |w|", span, span_slopes, span.misses,
                           lambda c: span_slopes(c, "tangent_sine_centre"), main)
        if slope.control and not slope.control.failed:
            slope = replace(slope, note="the control, the tangent space at the centre, is the whole span here")
        return [*found, slope]

    def _of_paraboloid(self, evidence: Evidence, zero: Margin) -> list[Verdict]:
        """The angle against θ*, and whether it goes to 0 in the control."""
        law, control = law_of(evidence.main), evidence.control
        name = "angle to T at the apex less θ* [rad]"
        if law is None:
            why = "θ* is that of a paraboloid with linear labels, uncentred and without noise"
            return [Verdict(self.name, evidence.main.name, name, NOT_TESTABLE, margin=zero, note=why)]
        excess = lambda c, state=LIMIT: angles("tangent_sine_centre", c, state) - law
        note = f"θ* = {law:.4f}"
        noted = lambda v: replace(v, note="; ".join(filter(None, [note, v.note])))
        found = [noted(judge_mean(self, evidence, name, zero, excess, zero.misses)),
                 noted(judge_mean(self, evidence, name.replace(" [rad]", ", control: t = 0 [rad]"), zero, excess, zero.misses,
                                  lambda c: excess(c, "start"), evidence.main))]
        if control is not None and law_of(control) == 0:
            there = lambda state: Measured(control.name, control.seeds, angles("tangent_sine_centre", control, state))
            found.append(judge_measured(
                self, evidence, f"angle to T at the apex on {control.name} [rad]", zero, there(LIMIT), there("start"),
                zero.misses, cells=[control], has_step_error=False))
        return found

    def _rates(self, evidence: Evidence, options: TangentOptions) -> list[Verdict]:
        main, one, none = evidence.main, Margin(1 - options.rate, 1 + options.rate), Margin(-options.rate, options.rate)
        names, found = regressors_of(main), []
        for name in names:
            margin, beside = (one, "") if name == DRIFT else (none, f" beside {DRIFT}")
            measure = partial(coefficient, name, names)
            permuted = partial(measure, shuffle=evidence.rng(self.name, name, "shuffle"))
            found.append(judge_mean(self, evidence, f"log rate: coefficient of {name}{beside}", margin, measure, margin.misses,
                                    permuted, main))
        return found

    def _reported(self, evidence: Evidence) -> list[Verdict]:
        main, control, names = evidence.main, evidence.control, regressors_of(evidence.main)
        beside = control if control is not None and control.config["task"]["kind"] in MANIFOLDS else None

        def report(name: str, measure: Measure, note: str = "") -> Verdict:
            control = None if beside is None else Measured.of(beside, measure)
            return report_measured(self, evidence, name, Measured.of(main, measure), control, note)

        radial = "on a sphere every vector is radial at its own foot point: this says nothing"
        found, law = [], law_of(main, cone=True)
        for base, words in BASES.items():
            note = radial if base == "active" and main.config["task"]["kind"] == "sphere" else ""
            if base != base_of(main):
                found.append(report(f"angle to T {words} [rad]", partial(angles, f"tangent_sine_{base}"), note))
        found.append(report(f"angle to span{{p, T}} {BASES['centre']} [rad]", partial(angles, "cone_sine_centre"),
                            "" if law is None else f"θ* = {law:.4f}"))
        found.append(report(f"angle to T {BASES[base_of(main)]}, half of the loss left [rad]",
                            lambda c: angles(f"tangent_sine_{base_of(main)}", c, LATER)))
        without = tuple(name for name in names if name != DRIFT)
        rates = [(f"log rate: coefficient of {name} without {DRIFT}", partial(coefficient, name, without)) for name in without]
        rates += [(f"log rate with flips of gates: coefficient of {name}",
                   partial(coefficient, name, names, rate="turning_rate_whole")) for name in names]
        return [*found, *(report_measured(self, evidence, name, Measured.of(main, measure)) for name, measure in rates)]


def base_of(cell: CellResults) -> str:
    """The base point that G's claim is judged at."""
    return "centre" if cell.config["task"]["kind"] in WITH_CENTRE else "nearest"


def law_of(cell: CellResults, cone: bool = False) -> float | None:
    """θ* of a cell; None where it is not known."""
    task = cell.config["task"]
    if task["kind"] != "paraboloid" or task["labels"] != "linear" or task["center"] or task["noise"] or task["permute_labels"]:
        return None
    return limiting_angle(task["intrinsic"], task["curvature"], task["offset"], cone)


def angles(observable: str, cell: CellResults, state: str = LIMIT) -> np.ndarray:
    """Median over living neurons of an angle whose sine was observed, for each network, in rad."""
    sines = np.where(cell.at("active", state) == 1, cell.at(observable, state), np.nan)
    return median_of(np.arcsin(np.minimum(sines, 1)))


def start_in_span(observable: str, cell: CellResults) -> np.ndarray:
    """The angle at the start of that part of w which lies in the span of the samples: what off-span parts hide.

    As tangent spaces are parts of the span, sin²θ of w is sin²θ_span + cos²θ_span sin²θ of the part.
    """
    off = np.nan_to_num(cell.at("span_sine", "start"))
    whole = np.where(cell.at("active", "start") == 1, cell.at(observable, "start"), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        square = (whole**2 - off**2) / (1 - off**2)
    return median_of(np.arcsin(np.sqrt(np.clip(square, 0, 1))))


def span_slopes(cell: CellResults, observable: str = "span_sine") -> np.ndarray:
    """The slope of the change of log sin θ on that of log |w| over neurons, for each network."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sines = np.stack([np.log(cell.at(observable, state)) for state in WAY])
        norms = np.stack([np.log(cell.at("input_norm", state)) for state in WAY])
        x, y = (values[1:] - values[0] for values in (norms, sines))
        return np.sum(x * y, axis=(0, 2)) / np.sum(x * x, axis=(0, 2))


def _logs(values: np.ndarray) -> np.ndarray:
    """Logarithms, NaN where there is none."""
    return np.log(np.where(values > 0, values, np.nan))


def _columns(cell: CellResults) -> dict[str, np.ndarray]:
    return {DRIFT: _logs(cell["turning_drift"]), "curvature": cell["turning_curvature"], "gate share": cell["turning_gates"]}


def regressors_of(cell: CellResults) -> tuple[str, ...]:
    """What may explain the rate of turning: all that varies among the neurons of the networks."""
    columns = _columns(cell)
    varies = lambda x: np.nanmax(np.nanstd(x, axis=1)) > 1e-9 if np.isfinite(x).any() else False
    return tuple(name for name, x in columns.items() if varies(np.where(np.isfinite(x), x, np.nan)))


def coefficient(
    name: str, names: tuple[str, ...], cell: CellResults, rate: str = "turning_rate", shuffle: np.random.Generator | None = None
) -> np.ndarray:
    """Coefficient of one of several regressors in the logarithm of a rate, for each network.

    Parameters
    ----------
    names : tuple of str
        All regressors: see `regressors_of`.
    rate : {"turning_rate", "turning_rate_whole"}
    shuffle : generator, optional
        Shuffles log |D_a| within networks: a control.
    """
    columns, y = _columns(cell), _logs(cell[rate])
    strata = np.zeros(y.shape, np.int64)
    if shuffle is not None:
        used = np.isfinite(y) & np.all([np.isfinite(columns[n]) for n in names], axis=0)
        columns[DRIFT] = shuffled_within(np.where(used, columns[DRIFT], np.nan), strata, shuffle)
    return slopes_within_many([columns[n] for n in names], y, strata)[names.index(name)]


def _draw_angles(evidence: Evidence, axes: Axes) -> None:
    """Distributions over networks of each angle at the start and at the limit."""
    main, shown = evidence.main, []
    what = {"span of the samples": "span_sine", **{f"T {words}": f"tangent_sine_{base}" for base, words in BASES.items()},
            "span{p, T} at the centre (B)": "cone_sine_centre"}
    for label, name in what.items():
        shown += [(label, COLOURS[5], angles(name, main, "start")), ("at the onset", MAIN, angles(name, main))]
    if evidence.control is not None and evidence.control.config["task"]["kind"] in MANIFOLDS:
        shown.append((f"T at the centre, {evidence.control.name}", COLOURS[1], angles("tangent_sine_centre", evidence.control)))
    count = rows(axes, shown)
    if (law := law_of(main)) is not None:
        axes.axvline(law, color="0.5", linestyle="--", label=f"θ* = {law:.3f}")
        legend_above(axes, f"{main.name}: {count}")
    else:
        axes.set_title(f"{main.name}: {count}")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="angle of w, rad (light blue: at the start)", xlim=(-0.05, np.pi / 2 + 0.05))


def _draw_rates(cell: CellResults, axes: Axes) -> None:
    """log rate against log |D|, both less their means in the network; and the law."""
    x, y = _columns(cell)[DRIFT], _logs(cell["turning_rate"])
    good = np.isfinite(x) & np.isfinite(y)
    x, y = (np.where(good, values, np.nan) for values in (x, y))
    count = np.maximum(good.sum(axis=1, keepdims=True), 1)
    x, y = (values - np.nansum(values, axis=1, keepdims=True) / count for values in (x, y))
    density_of_law(axes, x, y, MAIN, (DRAWN, DRAWN), "the law: rate = |D|")
    axes.set(xlabel="log |D_a|, less its mean in the network", ylabel="log rate of turning,\nless its mean")
    legend_above(axes, f"{cell.name}: n = {good.any(axis=1).sum():,} networks,\n{good.sum():,} neurons")
