"""All predictions of a study on its results, corrected for their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrace.errors import StudyError
from mcrace.mistakes import validated
from mcrace.predictions.base import PREDICTIONS, Evidence, Options, Prediction, Verdict
from mcrace.results import CellResults, Results, open_results
from mcrace.statistics import benjamini_hochberg, holm


def with_options(name: str, table: dict[str, Any]) -> tuple[Prediction, Options]:
    """A prediction and its options as they stand in a study file.

    Raises
    ------
    StudyError
        If there is no such prediction, or an option is wrong.
    """
    try:
        found = PREDICTIONS[name]
    except StudyError as error:
        raise StudyError(f"predictions.{name}: {error}") from None
    return found, validated(found.options, table, f"predictions.{name}")


def cases(
    results: Results | str | Path, predictions: dict[str, dict[str, Any]] | None = None
) -> Iterator[tuple[Prediction, Options, Evidence]]:
    """The predictions of a study, each with the cells that it is to be judged on; arguments as for `test`."""
    if not isinstance(results, Results):
        results = open_results(results)
    study = results.study
    cells = [cell.remembering() for cell in results]
    for name, table in (study.predictions if predictions is None else predictions).items():
        found, options = with_options(name, table)
        mains = [c for c in cells if c.attributes["role"] == "main" and c.name not in options.controls
                 and (not options.cells or c.name in options.cells)]
        for main in mains[:1] if found.across else mains:
            yield found, options, _evidence(study.entropy, main, mains, cells, found, options)


def test(results: Results | str | Path, predictions: dict[str, dict[str, Any]] | None = None) -> list[Verdict]:
    """Judge the predictions of a study on its results.

    Parameters
    ----------
    results : Results, or a path to a results file or directory
    predictions : dict, optional
        Names with their options, instead of those in the study: other margins, say.

    Returns
    -------
    list of Verdict
        The primary verdict of each prediction and cell first.  p-values are adjusted by Holm over the primary ones,
        by Benjamini and Hochberg over the others.
    """
    verdicts: list[Verdict] = []
    for found, options, evidence in cases(results, predictions):
        verdicts += found.judge(evidence, options)
    return _adjusted(verdicts)


test.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _evidence(
    entropy: int, main: CellResults, mains: list[CellResults], cells: list[CellResults], found: Prediction, options: Options
) -> Evidence:
    by_name = {cell.name: cell for cell in cells}
    halves = {c.attributes["of"]: c for c in cells if c.attributes["role"] == "half-step"}
    needs_half = found.needs(options).half_step
    controls = {name: by_name[name] for name in options.controls if name in by_name}
    return Evidence(entropy, main, controls.get(options.control), halves.get(main.name), needs_half, tuple(mains), halves,
                    controls)


def _adjusted(verdicts: list[Verdict]) -> list[Verdict]:
    for primary, adjust in ((True, holm), (False, benjamini_hochberg)):
        places = [k for k, v in enumerate(verdicts) if v.primary == primary and np.isfinite(v.p)]
        for place, p in zip(places, adjust(np.array([verdicts[k].p for k in places]))):
            verdicts[place] = replace(verdicts[place], p_adjusted=float(p))
    return verdicts
