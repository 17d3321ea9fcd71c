"""lottery-ticket: a lucky start is a high handicap, known before training (text R; THEORY.md, lottery-ticket)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mcrace.predictions.base import Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean, report_mean
from mcrace.predictions.panels import CONTROL, MAIN, Panel, density_of_law, legend_above
from mcrace.results import CellResults
from mcrace.statistics import Margin, slopes_within

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGH_LEAD, LOW_LEAD = 0.3, 0.1
HIGH_OVERLAP, LOW_OVERLAP = 0.6, 0.4
TEN, OTHER = "ten:", "other:"
DRAWN = (-1.5, 1.5)


class TicketOptions(Options):
    """Options of the prediction."""

    margin: float = Field(0.1, gt=0, lt=1, description="half width of the margin of the slope round 1")


@prediction("lottery-ticket")
class LotteryTicket(Prediction):
    """Early in training neurons are independent, so a part of a network, trained alone from its own start, comes to the onset
    of learning at a τ that its handicaps H = (|v0| + |w0| cos δ0)²/4 decide:

        2(τ_on(B) - τ_on(A)) = log(ΣH_A / ΣH_B).

    Statistic: per network, least squares of -2τ_on on log ΣH over tickets of ten neurons, half of each sign: the highest H,
    cos δ0 alone, a0 alone, off the ticket but matched to it in a0 and sign, and ten random ones; the mean over networks; the
    law says 1.  Control: the same tickets on labels of another direction, sign(x·u) with u orthogonal to the first drift.
    There the lead of the H ticket on its match is below 0.1, on the true labels above 0.3.  Of the K = max(4, K_merge)
    neurons that win, tickets by H hold at least 0.6, those by a0 at most 0.4.  Reported: by how much 2τ_on of tickets of
    that size is ahead of a random one, and the final loss.  The clock is the median |D| of the whole network at the start.
    """

    options = TicketOptions
    meaning = {
        "supported": "Tickets can be told before training: how early a part of a network learns follows from "
                     "its handicaps, and only on the labels they are for.",
        "refuted": "How early a part of a network learns does not follow from its handicaps with the slope "
                   "that the law says.",
    }

    def needs(self, options: TicketOptions) -> Needs:
        return Needs((), stages=("tickets",))

    def judge(self, evidence: Evidence, options: TicketOptions) -> list[Verdict]:
        main, training = evidence.main, evidence.main.config["training"]
        if training["method"] != "gd" or training["weight_decay"]:
            return self.not_testable(evidence, "the law is for plain descent")
        margin = Margin(1 - options.margin, 1 + options.margin)
        slope = judge_mean(self, evidence, "slope of -2τ_on on log ΣH", margin, onset_slopes, margin.misses,
                           measure_control=partial(onset_slopes, task=OTHER), control=main, primary=True)
        ahead = judge_mean(self, evidence, "lead in 2τ_on of the H ticket", Margin(low=HIGH_LEAD), lead_on_match,
                           lambda i: i.high < LOW_LEAD, measure_control=partial(lead_on_match, task=OTHER), control=main)
        overlap = judge_mean(self, evidence, "winners in the H ticket", Margin(low=HIGH_OVERLAP), overlap_with_winners,
                             lambda i: i.high <= LOW_OVERLAP, measure_control=partial(overlap_with_winners, ticket="a0"),
                             control=main)
        leads = [report_mean(self, evidence, f"lead in 2τ_on on a random ticket, {text}", partial(lead_on_random, ticket=name))
                 for name, text in (("winners", "winners"), ("handicap", "H"), ("a0", "a0"), ("snip", "SNIP"),
                                    ("fresh", "new start"))]
        return [slope, ahead, overlap, *leads,
                report_mean(self, evidence, "final loss, H ticket over winners", partial(final_loss, ticket="handicap")),
                report_mean(self, evidence, "final loss, random ticket over winners", partial(final_loss, ticket="random")),
                report_mean(self, evidence, "neurons of these tickets (16 at most)", ticket_size)]

    def panels(self, evidence: Evidence, options: TicketOptions) -> list[Panel]:
        caption = "Tickets of ten neurons{}: how early each comes to the onset, against its handicaps."
        return [Panel(caption.format(""), partial(_draw_tickets, evidence.main, TEN, MAIN, "the labels they are for")),
                Panel(caption.format(" on labels of another direction"),
                      partial(_draw_tickets, evidence.main, OTHER, CONTROL, "other labels"))]


def _draw_tickets(cell: CellResults, task: str, colour: str, title: str, axes: Axes) -> None:
    """-2τ_on against log ΣH, each less its mean over the tickets of a network."""
    late, handicaps = _early_and_handicaps(cell, task)
    late, handicaps = (x - x.mean(axis=1, keepdims=True) for x in (late, handicaps))
    density_of_law(axes, handicaps, late, colour, (DRAWN, DRAWN), "the law: slope 1")
    axes.set(xlabel="log ΣH − its mean over tickets, pure number", ylabel="−2τ at the onset − its mean,\npure number")
    good = np.isfinite(late + handicaps)
    legend_above(axes, f"{cell.name}, {title}:\nn = {good.any(axis=1).sum():,} networks, {good.sum():,} tickets")


def ticket_size(cell: CellResults) -> np.ndarray:
    """Neurons of the tickets of the network's own size, for each network; NaN where it did not get to the end."""
    return np.where(cell["ticket_size"] > 0, cell["ticket_size"], np.nan)


def _of(cell: CellResults, variable: str, ticket: str) -> np.ndarray:
    return cell[variable][:, cell["variant"].tolist().index(ticket)]


def onset_clock(cell: CellResults, task: str) -> np.ndarray:
    """τ_on of all tickets on the clock of a task, k log(1 + η|D|) [network, variant]; with a schedule, to order η|D|."""
    step_size = cell.config["training"]["step_size"]
    clock = cell["ticket_clock_other" if task == OTHER else "ticket_clock"]
    return cell["ticket_onset_time"] / step_size * np.log1p(step_size * clock)[:, None]


def onset_slopes(cell: CellResults, task: str = TEN) -> np.ndarray:
    """Slope of -2τ_on on log ΣH, the handicaps of the true labels, for each network; NaN if a ticket has no onset."""
    late, handicaps = _early_and_handicaps(cell, task)
    slopes = slopes_within(handicaps, late, np.zeros(late.shape, np.int64))
    return np.where(np.isfinite(late + handicaps).all(axis=1), slopes, np.nan)


def _early_and_handicaps(cell: CellResults, task: str) -> tuple[np.ndarray, np.ndarray]:
    """-2τ_on and log ΣH of the tickets of ten neurons on a task [network, ticket]."""
    of_task = np.array([name.startswith(task) for name in cell["variant"].tolist()])
    return -2 * onset_clock(cell, task)[:, of_task], np.log(cell["ticket_handicap"][:, of_task])


def _lead(cell: CellResults, task: str, ticket: str, on: str) -> np.ndarray:
    clock, names = onset_clock(cell, task), cell["variant"].tolist()
    return 2 * (clock[:, names.index(on)] - clock[:, names.index(ticket)])


def lead_on_match(cell: CellResults, task: str = TEN) -> np.ndarray:
    """2τ_on of the matched ticket less that of the H ticket, ten neurons each, for each network."""
    return _lead(cell, task, f"{task}handicap", f"{task}matched")


def lead_on_random(cell: CellResults, ticket: str) -> np.ndarray:
    """2τ_on of a random ticket less that of another, both of the network's own size, for each network."""
    return _lead(cell, TEN, ticket, "random")


def overlap_with_winners(cell: CellResults, ticket: str = "handicap") -> np.ndarray:
    """Share of a ticket's neurons that are among the winners, for each network."""
    chosen, winners = _of(cell, "ticket_neurons", ticket), _of(cell, "ticket_neurons", "winners")
    common = (chosen[:, :, None] == winners[:, None, :]) & (chosen >= 0)[:, :, None]
    with np.errstate(invalid="ignore"):
        return common.any(axis=2).sum(axis=1) / (chosen >= 0).sum(axis=1)


def final_loss(cell: CellResults, ticket: str) -> np.ndarray:
    """Loss at the end of a ticket's training over that of the winners, for each network."""
    return _of(cell, "ticket_final_loss", ticket) / _of(cell, "ticket_final_loss", "winners")
