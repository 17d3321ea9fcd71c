"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from mcrace import store
from mcrace.errors import ResultsError
from mcrace.predictions import Panel, Prediction, Verdict, cases, test
from mcrace.predictions.base import Evidence, Options
from mcrace.recording import Status
from mcrace.report import figures, words
from mcrace.results import RESULTS, CellResults, Results
from mcrace.study import Study
from mcrace.wording import duration, interval, number, p_value

REPORT = "report.html"
MOST_OWN = 4  # cells on which the own panels of a prediction are drawn
PROVENANCE = {"written": "merged", "mcrace_version": "mcrace", "engine": "engine", "versions": "libraries",
              "python": "Python", "cpu": "processor", "git_commit": "commit", "kernel": "kernels", "entropy": "entropy",
              "identity": "identity of the results", "attributes_digest": "digest of the attributes"}
COLUMNS = ((Status.STOPPED, "stopped"), (Status.STEPS, "took all steps"), (Status.DIVERGED, "diverged"), (Status.DEAD, "dead"))
FAILURES = {Status.DIVERGED: "diverged", Status.DEAD: "dead", Status.TOLERANCE: "missed the tolerance",
            Status.EVALUATIONS: "took too many gradients", Status.CHATTER: "chattered"}


def write(results: Results, output: str | Path | None, verdicts: Sequence[Verdict] | None) -> Path:
    """See `mcrace.report.write_report`."""
    path = Path(output) if output is not None else _beside(results.path)
    if path.is_dir():
        path = path / REPORT
    text = html(results, test(results) if verdicts is None else verdicts)
    try:
        store.publish_text(path, text)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _beside(path: Path) -> Path:
    return path.with_name(REPORT) if path.name == RESULTS else path.with_suffix(".html")


def html(results: Results, verdicts: Sequence[Verdict]) -> str:
    """The page as text."""
    study = results.study
    there = {cell.name: cell for cell in results}
    cells = [_cell(cell, there) for cell in there.values()]
    first = next(iter(there.values())).config
    draw = _Drawing()
    return _template().render(
        name=study.name, question=_question(study.text), study=study.text,
        asked={"Task": words.task_in_words(first["task"]), "Network": words.network_in_words(first["network"]),
               "Training": words.training_in_words(first["training"]),
               "Size": f"{sum(c['networks'] for c in cells):,} networks in {len(cells)} cells, "
                       f"each from a random start of its own."},
        predictions=[_prediction(*case, draw) for case in _grouped(results, verdicts)],
        reported=any(v.verdict == "reported" for v in verdicts),
        cells=cells, seconds=duration(sum(float(c.attributes["seconds"]) for c in there.values())),
        losses=[draw(p) for p in figures.loss_panels(there.values())],
        failures=_failures(cells), provenance=_provenance(results, there.values()), command=_command(study, there.values()))


@cache
def _template() -> Template:
    environment = Environment(loader=PackageLoader("mcrace.report", "."), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters["slug"] = _slug
    return environment.get_template("page.html")


def _slug(text: str) -> str:
    """A word that may be an id and a class."""
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


def _question(text: str) -> str:
    """The comment at the top of the study file."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.strip().splitlines())
    return " ".join(line.lstrip("#").strip() for line in lines)


class _Drawing:
    """Draws panels, each with a prefix of its own for the ids in it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, panel: Panel) -> dict[str, Any]:
        self.count += 1
        try:
            svg = Markup(figures.svg_of(panel, f"f{self.count}"))
        except Exception as error:  # a plug-in's figure is no reason to lose the page
            svg = Markup("<p class=note>{}</p>").format(f"This figure could not be drawn: {type(error).__name__}: {error}")
        return {"svg": svg, "caption": panel.caption}


# ------------------------------------------------------------------------------------------------- predictions

Case = tuple[Prediction, list[tuple[Options, Evidence]], list[Verdict]]


def _grouped(results: Results, verdicts: Sequence[Verdict]) -> list[Case]:
    """Each prediction with all that it was judged on, and all its verdicts."""
    found: dict[str, Case] = {}
    for prediction, options, evidence in cases(results):
        mine = [v for v in verdicts if v.prediction == prediction.name]
        found.setdefault(prediction.name, (prediction, [], mine))[1].append((options, evidence))
    return list(found.values())


def _prediction(prediction: Prediction, judged: list[tuple[Options, Evidence]], verdicts: list[Verdict],
                draw: Callable[[Panel], dict[str, Any]]) -> dict[str, Any]:
    """What the page says of one prediction."""
    own = [draw(panel) for options, evidence in judged[:MOST_OWN] for panel in _own(prediction, options, evidence)]
    groups = [list(same) for _, same in itertools.groupby(verdicts, key=lambda v: v.cell)]
    return {
        "name": prediction.name, "text": prediction.text, "law": prediction.law,
        "paragraphs": [{"formula": p.startswith("  "), "text": textwrap.dedent(p).replace("`", "")}
                       for p in prediction.paragraphs],
        "answers": [_answer(prediction, group) for group in groups],
        "own": own, "undrawn": max(0, len(judged) - MOST_OWN) if own else 0,
        "statistics": [draw(panel) for panel in figures.statistic_panels(verdicts)],
    }


def _own(prediction: Prediction, options: Options, evidence: Evidence) -> list[Panel]:
    try:
        return figures.own_panels(prediction, options, evidence)
    except Exception as error:  # as in _Drawing
        why = error

        def fail(axes: Any) -> None:
            raise why

        return [Panel(f"A figure of {prediction.name}.", fail)]


def _answer(prediction: Prediction, verdicts: list[Verdict]) -> dict[str, Any]:
    """The verdicts on one cell, told by the primary one."""
    first = next((v for v in verdicts if v.primary), verdicts[0])
    return {"cell": first.cell, "verdict": first.verdict, "means": prediction.means(first.verdict),
            "rows": [_row(v) for v in verdicts], "notes": [(v.statistic, v.note) for v in verdicts if v.note]}


def _row(verdict: Verdict) -> dict[str, Any]:
    control = None
    if verdict.control:
        c = verdict.control
        control = {"cell": c.cell, "failed": c.failed, "estimate": f"{number(c.estimate)} {interval(c.low, c.high)}"}
    return {"statistic": verdict.statistic, "primary": verdict.primary, "verdict": verdict.verdict,
            "estimate": number(verdict.estimate), "interval": interval(verdict.low, verdict.high),
            "margin": str(verdict.margin), "p": p_value(verdict.p_adjusted), "control": control,
            "budget": words.budget_in_words(verdict)}


# ------------------------------------------------------------------------------------------------- cells


def _cell(cell: CellResults, there: Mapping[str, CellResults]) -> dict[str, Any]:
    status, steps = cell["status"], cell["stop_step"]
    of = cell.attributes["of"]
    base = there.get(of, next(iter(there.values())))
    return {"name": cell.name, "role": cell.attributes["role"], "networks": len(status),
            "different": words.swept_in_words(cell.config, base.config) if base.name != cell.name else "-",
            "statuses": {label: int((status == code).sum()) for code, label in COLUMNS},
            "failures": {code: int((status == code).sum()) for code in FAILURES},
            "median": f"{np.median(steps):,.0f}", "kernel": cell.attributes["kernel"],
            "identity": cell.attributes["identity"][:20]}


def _failures(cells: list[dict[str, Any]]) -> list[str]:
    """What went wrong with networks, and what helps against it."""
    return [f"{cell['name']}: {count:,} of {cell['networks']:,} networks {FAILURES[code]}. This means: {code.text}."
            for cell in cells for code, count in cell["failures"].items() if count]


def _provenance(results: Results, cells: Iterable[CellResults]) -> dict[str, str]:
    there = {label: str(results.attributes.get(key, "")) for key, label in PROVENANCE.items()}
    seeds = ((cell.name, cell.seeds) for cell in cells)
    told = "; ".join(f"{name} {found[0]} to {found[-1]}, {len(found):,} of them" for name, found in seeds)
    return {label: text for label, text in there.items() if text} | {"seeds": told}


def _command(study: Study, cells: Iterable[CellResults]) -> str:
    """What computes the same results again."""
    counts = [len(c.seeds) for c in cells if c.attributes["role"] != "half-step"]
    seeds = f" --seeds {max(counts)}" if counts and max(counts) != study.seeds.count else ""
    return f"mcrace run {study.name}.toml{seeds}"
