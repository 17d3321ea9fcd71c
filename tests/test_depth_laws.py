"""depth-transfer on small real networks of one and of three hidden layers: what THEORY.md says holds, and the rest fails."""

import numpy as np
import pytest

import mcrace
from mcrace.predictions.layer_table import entries

pytestmark = pytest.mark.laws

STUDY = """
[study]
name = "depths"
seeds = 32
entropy = {entropy}
[task]
kind = "gaussian"
dimension = 20
samples = 32
symmetric = true
scale = "unit-rms"
loss = "mse"
[network]
hidden = [16]
[training]
step_size = 0.2
steps = 20_000
until = {{ loss_drop = 0.905 }}
[record]
times = {{ count = 48 }}
[sweep.zip]
"network.hidden" = [[16], [16], [16, 16, 16], [16, 16, 16]]
"network.init.scale" = [0.03, 1.0, 0.15, 1.0]
"network.init.subtract_start" = [false, true, false, true]
"training.step_size" = [0.2, 0.05, 0.2, 0.05]
[predictions]
depth-transfer = {{ }}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Results and verdicts of two studies that differ in their random numbers."""
    out = []
    for entropy in (1, 2):
        directory = tmp_path_factory.mktemp(f"depth-{entropy}") / "results"
        results = mcrace.run(mcrace.parse_study(STUDY.format(entropy=entropy)), directory, workers=0)
        out.append((results, mcrace.test(results)))
    return out


def table(found):
    results, verdicts = found
    return entries(verdicts, {cell.name: cell.config for cell in results})


def of(found, claim):
    some = [e for e in table(found) if e.claim == claim]
    assert some, claim
    return some


def test_the_balance_is_exact_at_every_point(found):
    for e in of(found[0], "error of the balance"):
        v = e.verdict
        assert v.verdict == "supported" and v.high <= 1e-12 and v.control.low > 1e-2
    for e in of(found[0], "error of the growth law"):
        assert e.verdict.verdict == "supported" and e.verdict.high <= 1e-6


def test_half_the_step_tells_the_drift_of_the_balance_from_a_violation(found):
    for e in of(found[0], "drift of the balance at η → 0 over |w_0|²"):
        assert e.verdict.control.low > 0.1 and e.verdict.verdict in ("supported", "inconclusive"), e
        assert e.verdict.high < 0.05 * e.verdict.control.low
    for e in of(found[0], "slope of log drift of the balance on log η"):
        assert e.verdict.estimate == pytest.approx(1, abs=0.15) and abs(e.verdict.control.estimate) < 0.1, e


def test_every_layer_aligns_and_loses_rank(found):
    for e in of(found[0], "gain of alignment A"):
        assert e.verdict.low > e.verdict.control.high + 0.1, e
    for e in of(found[0], "stable rank, ratio main/control"):
        assert e.verdict.verdict == "supported", e


def test_one_layer_is_what_the_observables_of_one_layer_say(found):
    """Depth 1 goes through the same observables; what the others say of the same networks is in them, too."""
    results, _ = found[0]
    cell = next(c for c in results if len(c.config["network"]["hidden"]) == 1 and c.attributes["role"] == "main")
    assert cell.at("layer_norm_product", "start").shape == (32, 1, 16)
    assert np.isfinite(cell["layer_clock_score"]).all()


def test_the_table_holds_its_signs_with_other_random_numbers(found):
    """No claim that is supported in one is refuted in the other; and effects point the same way where both are judged."""
    one, two = ({(e.depth, e.layer, e.claim): e.verdict for e in table(f)} for f in found)
    assert one.keys() == two.keys()
    for key, v in one.items():
        assert {v.verdict, two[key].verdict} != {"supported", "refuted"}, key
