"""Paths, which follow a run, and stages, which come after it: made for the test, on a small real run."""

import numpy as np
import pytest
import studies
from studies import assert_same_data

import mcrace
from mcrace.completion import complete
from mcrace.errors import StudyError
from mcrace.observe import OBSERVABLES, Path, path
from mcrace.stages import STAGES, Stage, stage
from mcrace.store import Variable
from mcrace.training import train


@pytest.fixture
def own(monkeypatch):
    """A path and a stage that only this test knows."""
    monkeypatch.setattr(OBSERVABLES, "_things", dict(OBSERVABLES._things))
    monkeypatch.setattr(STAGES, "_things", dict(STAGES._things))

    @path("loss_time")
    class LossTime(Path):
        """∫ loss dt by the trapezoid, and the number of recording times."""

        def begin(self, state):
            return {"sum": np.zeros(len(state.v)), "loss": state.losses.mean(axis=1), "time": state.time.copy()}

        def follow(self, carry, state):
            loss = state.losses.mean(axis=1)
            carry["sum"] += (state.time - carry["time"]) * (loss + carry["loss"]) / 2
            carry["loss"], carry["time"] = loss, state.time.copy()

        def end(self, carry):
            return carry["sum"]

    @path("moved", ("neuron",))
    class Moved(Path):
        """Largest |w - w_0| at the recording times."""

        def begin(self, state):
            return {"W": state.W.copy(), "most": np.zeros(state.v.shape)}

        def follow(self, carry, state):
            assert (carry["W"] == state.start.W).all()
            carry["most"] = np.maximum(carry["most"], np.linalg.norm(state.W - carry["W"], axis=2))

        def end(self, carry):
            return carry["most"]

    @stage("half")
    class Half(Stage):
        """Trains the first half of the neurons alone."""

        observables = ("norm_product@start",)

        def work(self, config):
            return 1.0

        def run(self, trained):
            again = train(trained.config, trained.pool, trained.entropy, trained.seeds, trained.record.times, trained.batch,
                          beginning=self.halved(trained))
            names = Variable(("variant",), np.array(["half"], object))
            return {"variant": names, "half_loss": Variable(("seed", "variant"), again.at["loss"][:, -1:])}

        def halved(self, trained):
            from mcrace.initial import initial_weights

            def weights(seeds):
                W, v = initial_weights(trained.config, trained.entropy, seeds)
                W[:, W.shape[1] // 2 :], v[:, v.shape[1] // 2 :] = 0, 0
                return W, v

            return weights


MORE = {"observables": '["loss", "loss@final", "loss_time", "moved"]', "times": '{ spacing = "linear", count = 61 }'}


def run(tmp_path, name, seeds=24, **how):
    text = studies.race(seeds, **MORE).replace('weights = "none"', 'weights = "none"\nstages = ["half"]')
    return mcrace.run(mcrace.parse_study(text), tmp_path / name, **({"workers": 0} | how))


def test_a_path_follows_every_recording_time(own, tmp_path):
    cell = run(tmp_path, "a").cell("main")
    loss, time, steps = cell["loss"], cell["time"], cell["stop_step"]
    for i in range(len(loss)):
        on = np.isfinite(loss[i])
        t, values = np.r_[time[on], steps[i] * 0.5], np.r_[loss[i][on], cell.at("loss", "final")[i]]
        assert cell["loss_time"][i] == pytest.approx(np.trapezoid(values, t), rel=1e-12)
    assert cell["moved"].shape == (24, 8)
    assert (cell["moved"] > 0).any(axis=1).all()


def test_no_bit_of_a_path_or_a_stage_hangs_on_shards(own, tmp_path):
    run(tmp_path, "a")
    run(tmp_path, "b", shard_size=5)
    assert_same_data(tmp_path / "a", tmp_path / "b")


def test_a_stage_trains_again(own, tmp_path):
    cell = run(tmp_path, "a").cell("main")
    assert cell["variant"].tolist() == ["half"]
    loss = cell["half_loss"][:, 0]
    assert np.isfinite(loss).all()
    assert (loss != cell.at("loss", "final")).all()
    assert cell.to_xarray()["half_loss"].dims == ("seed", "variant")


def test_what_a_stage_needs_is_recorded(own):
    text = studies.race(4).replace('weights = "none"', 'weights = "none"\nstages = ["half"]')
    for cell in complete(mcrace.parse_study(text)).cells:
        assert "norm_product@start" in cell.config.record.observables
        assert cell.config.record.stages == ("half",)


@pytest.mark.parametrize("change, message", [
    (('observables = ["loss"', 'observables = ["moved@onset"'), "'moved@onset' follows the whole way of a network"),
    (('weights = "none"', 'weights = "none"\nstages = ["halve"]'), "unknown stage 'halve': did you mean 'half'?"),
])
def test_mistakes(own, change, message):
    with pytest.raises(StudyError) as error:
        complete(mcrace.parse_study(studies.race(4).replace(*change)))
    assert message in str(error.value)


def test_cells_that_are_to_be_judged_exist():
    with pytest.raises(StudyError, match="no cell 'mian'"):
        complete(mcrace.parse_study(studies.race(4).replace('racing = {', 'racing = { cells = ["mian"],')))
