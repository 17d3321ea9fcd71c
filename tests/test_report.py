"""The page and the figures: all of a study is on them, nothing comes from elsewhere, and text stays text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import studies

import mcrace
from mcrace import report
from mcrace.errors import ResultsError, StudyError
from mcrace.predictions import PREDICTIONS, Panel, Verdict
from mcrace.predictions.base import MEANING
from mcrace.predictions.panels import COLOURS
from mcrace.predictions.racing import growth_slopes
from mcrace.statistics import Margin

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from mcrace.report import figures, page, words  # noqa: E402


class Page(HTMLParser):
    """What is on a page: text, ids, references, and elements that were left open."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self._look(attributes)

    def _look(self, attributes):
        for key, value in attributes:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "xlink:href", "action", "data"):
                self.sources.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


@pytest.fixture(scope="module")
def verdicts(reference):
    return mcrace.test(reference)


@pytest.fixture(scope="module")
def text(reference, verdicts):
    return page.html(reference, verdicts)


@pytest.fixture
def undrawn(monkeypatch):
    """For tests that look at the words alone."""
    monkeypatch.setattr(figures, "svg_of", lambda panel, prefix: "<svg></svg>")


# ------------------------------------------------------------------------------------------------- the page


def test_everything_that_was_found_is_on_the_page(reference, verdicts, text):
    found = Page(text)
    assert found.open == []
    for v in verdicts:
        assert v.statistic in found.text and v.verdict in found.text
        assert f"{v.estimate:.3f}" in found.text or f"{v.estimate:.3g}" in found.text
        assert v.note in found.text
    for cell in reference:
        assert cell.name in found.text and cell.attributes["identity"][:20] in found.text
    for key in ("identity", "versions", "git_commit", "attributes_digest", "kernel", "cpu"):
        assert reference.attributes[key] in found.text, key
    assert "log(a_T / a_0) = const + 2 log((1 + cos δ_0) / 2)" in found.text, "the law as a formula"
    assert "20 samples, drawn anew for each network" in found.text and "8 ReLU neurons" in found.text
    assert "mcrace run small.toml" in found.text and "network.init.scale = 1, network.init.paired = yes" in found.text
    assert " ".join(reference.study.text.split()) in found.text


def test_every_prediction_has_its_figures(verdicts, text):
    for name, own in (("racing", 2), ("mutual-alignment", 2)):
        section = text[text.index(f'<section id="{name}"') :].partition("</section>")[0]
        judged = [v for v in verdicts if v.prediction == name and np.isfinite(v.estimate)]
        assert section.count("<svg") == own + len(judged)
        for v in judged:
            assert re.search(rf">{re.escape(v.statistic)[:30]}", section)
    assert "could not be drawn" not in text


def test_nothing_comes_from_elsewhere(text):
    found = Page(text)
    assert [s for s in found.sources if not s.startswith(("#", "data:"))] == []
    assert not {"script", "iframe", "object", "embed", "base"} & set(found.tags)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_ids_are_unique_and_what_is_referred_to_is_there(text):
    found = Page(text)
    assert len(found.ids) == len(set(found.ids))
    targets = {s[1:] for s in found.sources if s.startswith("#")} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert targets and targets <= set(found.ids)


def test_figures_follow_the_theme_of_the_page(text):
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(svgs) > 10
    for svg in svgs:
        assert figures.INK not in svg and "currentColor" in svg
        assert not re.search(r"(?<!, )(#0072b2|#d55e00)", svg), "colours are those of the page"
        assert "<text" in svg and 'width="' not in svg.partition(">")[0]


def test_a_refutation_is_told_as_plainly_as_a_success(reference, verdicts, undrawn):
    for verdict in ("supported", "refuted", "not discriminating", "inconclusive", "not testable here"):
        changed = [replace(v, verdict=verdict) if v.primary else v for v in verdicts]
        found = page.html(reference, changed)
        short = Page(found.partition("What was asked")[0].partition("<main>")[2].rpartition("</section>")[0]).text
        for name in ("racing", "mutual-alignment"):
            assert f"{name} on main: {verdict} . {PREDICTIONS[name].means(verdict)}" in short


def test_text_stays_text(reference, verdicts, undrawn):
    evil = "<script>alert('1')</script>&amp;"
    commented = replace(reference, attributes={**reference.attributes, "study": f"# {evil}\n{reference.attributes['study']}",
                                               "cpu": evil})
    changed = [replace(v, statistic=f"{evil} {v.statistic}", note=evil) for v in verdicts]
    found = page.html(commented, changed)
    assert "<script" not in found and Page(found).open == []
    assert Page(found).text.count("<script>alert('1')</script>&amp;") >= 4 + len(changed)


def test_what_went_wrong_is_said(tmp_path, undrawn):
    results = mcrace.run(mcrace.parse_study(studies.diverging(40)), tmp_path, workers=0)
    diverged = int((results.cell("main")["status"] == 2).sum())
    assert diverged > 0
    found = Page(page.html(results, mcrace.test(results))).text
    assert f"main: {diverged} of 40 networks diverged" in found and "lower training.step_size" in found


def test_a_study_without_predictions(tmp_path, undrawn):
    study = mcrace.parse_study(studies.race(3).partition("[predictions]")[0])
    results = mcrace.run(study, tmp_path, workers=0)
    assert "The study tests no predictions" in Page(page.html(results, [])).text


def test_a_figure_that_fails_costs_itself_alone(reference, verdicts, monkeypatch):
    def fail(axes):
        raise ZeroDivisionError("no <b>luck</b>")

    monkeypatch.setattr(type(PREDICTIONS["racing"]), "panels", lambda *_: [Panel("a", lambda axes: None), Panel("b", fail)])
    monkeypatch.setattr(type(PREDICTIONS["mutual-alignment"]), "panels", lambda *_: 1 / 0)
    found = page.html(reference, verdicts)
    assert found.count("could not be drawn: ZeroDivisionError") == 2 and "<b>luck" not in found
    assert found.count("<svg") == 1 + 1 + sum(bool(np.isfinite(v.estimate)) for v in verdicts)


# ------------------------------------------------------------------------------------------------- the file


def test_where_the_page_goes(reference, verdicts, tmp_path, undrawn):
    copy = tmp_path / "other.h5"
    copy.write_bytes(reference.path.read_bytes())
    elsewhere = mcrace.open_results(copy)
    assert report.write_report(elsewhere, verdicts=verdicts) == tmp_path / "other.html"
    assert report.write_report(elsewhere, tmp_path, verdicts) == tmp_path / "report.html"
    assert report.write_report(elsewhere, tmp_path / "new" / "a.html", verdicts) == tmp_path / "new" / "a.html"
    assert (tmp_path / "other.html").read_text() == (tmp_path / "report.html").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"file/a\.html: cannot be written"):
        report.write_report(elsewhere, tmp_path / "file" / "a.html", verdicts)


def test_commands(command, study_file, tmp_path, undrawn):
    answer = command("run", study_file(studies.race(31)), "-o", tmp_path / "run", "--workers", 0)
    there = tmp_path / "run" / "report.html"
    assert answer.code == 0 and f"report in {there}" in answer.out and "racing" in there.read_text()
    answer = command("report", tmp_path / "run", "-o", tmp_path / "page.html")
    assert answer.code == 0 and answer.out == f"report in {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").read_text() == there.read_text()
    assert command("report", tmp_path).code == 2


def test_without_the_libraries(command, study_file, tmp_path, monkeypatch, reference):
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    answer = command("run", study_file(studies.race(3)), "-o", tmp_path / "run", "--workers", 0)
    assert answer.code == 0 and "there is no report: figures and the report need matplotlib and jinja2" in answer.out
    answer = command("report", tmp_path / "run")
    assert answer.code == 2 and 'python -m pip install "mcrace[full]"' in answer.err
    with pytest.raises(mcrace.McraceError, match="need matplotlib:"):
        mcrace.plot(reference, "racing")


# ------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("name, own", [("racing", 2), ("mutual-alignment", 2)])
def test_plot(reference, verdicts, name, own):
    before = dict(matplotlib.rcParams)
    figure = mcrace.plot(reference, name)
    assert dict(matplotlib.rcParams) == before
    statistics = [v.statistic for v in verdicts if v.prediction == name]
    titles = [" ".join(axes.get_title(loc="left").split()) for axes in figure.axes]
    assert titles[own:] == statistics
    for axes in figure.axes:
        labels = [label.get_text() for label in axes.get_yticklabels()]
        legend = [t.get_text() for t in axes.get_legend().get_texts()] if axes.get_legend() else []
        assert axes.get_xlabel() and (axes.get_ylabel() or any("n = " in label for label in labels))
        assert any("n = " in t for t in [*labels, *legend, axes.get_title(loc="left")])
    figure.savefig(Path("/dev/null"), format="png")


def test_colours_are_those_of_the_style_sheet(reference):
    with matplotlib.rc_context(fname=figures.STYLE):
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(COLOURS)
        assert matplotlib.colors.to_hex(matplotlib.rcParams["text.color"]) == figures.INK
    line = mcrace.plot(reference, "mutual-alignment", statistics=False).axes[0].lines[0]
    assert line.get_color() == COLOURS[0], "drawn later, outside of the style sheet, it is the same"


def test_plot_of_the_panels_alone(reference):
    assert len(mcrace.plot(reference, "racing", statistics=False).axes) == 2


def test_plot_of_what_there_is_not(reference):
    with pytest.raises(StudyError, match="did you mean 'racing'"):
        mcrace.plot(reference, "rasing")
    with pytest.raises(StudyError, match="not judged on a cell 'lazy'"):
        mcrace.plot(reference, "racing", cell="lazy")


def test_a_verdict_knows_the_numbers_of_its_networks(reference, verdicts):
    slope = verdicts[0]
    assert set(slope.values) == {"main", "control", "half-step"}
    assert slope.values["main"].mean() == pytest.approx(slope.estimate) and len(slope.values["main"]) == slope.networks
    assert slope.values["control"].mean() == pytest.approx(slope.control.estimate)
    np.testing.assert_array_equal(slope.values["half-step"], growth_slopes(reference.cell("main+half-step")))
    assert "values" not in json.loads(json.dumps(slope.plain())) and "values" not in repr(slope)
    assert replace(slope, values={}) == slope


def drawn(*verdicts):
    """The axes of the panel of one statistic."""
    (panel,) = figures.statistic_panels(verdicts)
    (axes,) = figures.together([panel]).axes
    return axes


def test_a_distribution_shows_every_arm_and_the_margin():
    values = {"main": np.linspace(0.9, 1.2, 50), "control": np.linspace(0.0, 0.3, 50)}
    verdict = Verdict("p", "a", "slope", "supported", estimate=1.05, low=1.0, high=1.1, margin=Margin(0.9, 1.1), networks=50,
                      values=values)
    axes = drawn(verdict, replace(verdict, cell="b"))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["a\nn = 50", "b\nn = 50"]
    low, high = axes.get_xlim()
    assert low < 0.9 < 1.2 < high and "margin 1 ± 0.1" in axes.get_xlabel()
    band = axes.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.9, 1.1))


def test_without_values_intervals_are_drawn():
    axes = drawn(Verdict("p", "a", "share", "refuted", estimate=0.3, low=0.25, high=0.35, margin=Margin(low=0.5), networks=40))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a\nn = 40"]
    assert (0.25, 0.35) in [tuple(line.get_xdata()) for line in axes.lines]


def test_a_sweep_is_drawn_in_part_and_says_so():
    verdicts = [Verdict("p", f"cell-{k}", "x", "supported", estimate=k, low=k - 0.1, high=k + 0.1) for k in range(40)]
    (panel,) = figures.statistic_panels(verdicts)
    assert panel.rows == 12 and panel.caption.endswith("Of 40 cells the first 12 are drawn.")
    assert len(drawn(*verdicts).get_yticks()) == 12


def test_numbers_far_out_are_counted():
    values = np.r_[np.linspace(0, 1, 300), 1e6]
    axes = drawn(Verdict("p", "a", "x", "supported", estimate=0.5, low=0.4, high=0.6, values={"main": values}))
    assert axes.get_xlim()[1] < 10 and "1 networks lie outside" in axes.get_xlabel()


def test_equal_numbers_and_none_at_all():
    same = Verdict("p", "a", "x", "supported", estimate=1.0, low=1.0, high=1.0, values={"main": np.ones(40)})
    assert drawn(same).get_xlim()[0] < 1 < drawn(same).get_xlim()[1]
    assert figures.statistic_panels([Verdict("p", "a", "x", "not testable here")]) == []


# ------------------------------------------------------------------------------------------------- words


def test_a_prediction_says_what_its_verdicts_mean():
    for name in PREDICTIONS:
        prediction = PREDICTIONS[name]
        assert prediction.formula and "\n" not in prediction.text and prediction.text
        said = [prediction.means(verdict) for verdict in MEANING]
        assert all(s.endswith(".") and s.count(". ") == 0 for s in said) and len(set(said)) == len(MEANING)


def test_studies_in_words():
    config = mcrace.parse_study(studies.race()).cells[0].config.plain()
    assert words.task_in_words({**config["task"], "fresh": False, "permute_labels": True}).endswith(
        "20 samples, the same for all networks; inputs centred and scaled to mean square 1; labels shuffled. Loss: logistic.")
    assert "`" not in words.task_in_words(config["task"])
    assert words.task_in_words({**config["task"], "kind": "gone"}).startswith("gone (dimension = 5, labels = odd). 20 samples")
    init = {**config["network"]["init"], "balanced": False, "norms": "equal", "direction": {"kappa": 30.0, "axis": 0}}
    assert words.network_in_words({"hidden": [8], "init": init}) == (
        "One hidden layer of 8 ReLU neurons. At the start weights of equal norm, scale 0.01, directions concentrated round an "
        "axis (κ = 30), not balanced.")
    training = {**config["training"], "method": "heavy-ball", "momentum": 0.9, "batch": 5, "until": None}
    assert words.training_in_words(training) == (
        "Heavy ball, 5 samples a batch, step size 0.5, 300 steps at most, momentum 0.9; float32.")
