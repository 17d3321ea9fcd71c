"""What a person sees of results: figures, and one page that holds all of it.

matplotlib and jinja2 are needed to draw and to write, not to import this.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mcrace.errors import McraceError
from mcrace.predictions import Verdict
from mcrace.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot", "write_report"]


class MissingLibrary(McraceError):
    """A library that only figures and pages need is not installed."""

    exit_code = 2


def plot(results: Results, prediction: str, cell: str | None = None, *, statistics: bool = True) -> Figure:
    """Draw a prediction on the results of a study: its own panels, and each statistic's distribution over networks.

    Parameters
    ----------
    results : Results
    prediction : str
        Its name in the study file.
    cell : str, optional
        The cell to draw; the first that is judged by default.
    statistics : bool, optional
        Whether to draw the distributions too; a prediction without panels of its own has them in any case.

    Returns
    -------
    matplotlib.figure.Figure
        ``figure.savefig("race.pdf")`` writes it; a notebook shows it.

    Raises
    ------
    StudyError
        If the study does not have the prediction, or does not judge it on the cell.
    MissingLibrary
        If matplotlib is not installed.
    """
    _need("matplotlib")
    from mcrace.report import figures

    return figures.plot(results, prediction, cell, statistics)


def write_report(results: Results, output: str | Path | None = None, verdicts: Sequence[Verdict] | None = None) -> Path:
    """Write one self-contained HTML page about results: question, verdicts, figures, cells, and where they come from.

    Parameters
    ----------
    results : Results
    output : path, optional
        The file; by default ``report.html`` beside ``results.h5``, and otherwise beside the results file under its name.
    verdicts : sequence of Verdict, optional
        As `mcrace.test` gives them, so that they need not be found again.

    Returns
    -------
    Path
        Where the page is; it appears whole or not at all.

    Raises
    ------
    ResultsError
        If the file cannot be written.
    MissingLibrary
        If matplotlib or jinja2 is not installed.
    """
    _need("matplotlib", "jinja2")
    from mcrace.report import page

    return page.write(results, output, verdicts)


def _need(*names: str) -> None:
    """Say in one sentence what is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingLibrary(f'figures and the report need {" and ".join(missing)}: python -m pip install "mcrace[full]"')
