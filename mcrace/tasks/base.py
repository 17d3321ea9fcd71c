"""What every task has in common: its options, the preparation of inputs, the labels, and test samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.errors import StudyError
from mcrace.kernels.dynamics import Population
from mcrace.registry import Registry
from mcrace.seeds import SHARED, Stream
from mcrace.tables import Section
from mcrace.tasks.corruption import CLEAN, Condition, Corruption, Image, corrupted
from mcrace.tasks.normalisation import InputNorm, normalised_inputs
from mcrace.tasks.preparation import Preparation, prepare

Pool = dict[str, np.ndarray]
Drawn = tuple[np.ndarray, np.ndarray]


class Task(Section):
    """The options that every task takes.

    A task draws samples for one network from a *pool*: arrays that are prepared once, saved, and read by all workers.
    What is done to inputs is done in the order in which the options stand here: `corruption` and `permute_inputs` (see
    `mcrace.tasks.corruption`); then `center_samples`, `center`, `whiten`, `scale`, found from the training samples of each
    network, or of all where they are shared (see `mcrace.tasks.preparation`); then `normalise`, each sample by itself.
    """

    kind: str
    samples: int = Field(ge=1, le=1_000_000, description="samples of each network")
    test_samples: int = Field(0, ge=0, le=1_000_000, description="samples for tests, none of them trained on")
    fresh: bool = Field(True, description="draw samples anew for each network; false: once, for all")
    corruption: Corruption | None = Field(None, description="of training samples, test samples, or both; none by default")
    permute_inputs: bool = Field(False, description="one random order of the inputs, as of the pixels of all images: a control")
    center_samples: bool = Field(False, description="subtract from each sample the mean of its own features")
    center: bool = Field(True, description="subtract the mean of each feature")
    whiten: bool = Field(False, description="second moments 1 along all directions that the samples span (ZCA)")
    scale: Literal["none", "unit-rms", "unit-norm"] = Field(
        "unit-rms", description="one factor, so that the mean of |x|² is 1, or a factor for each sample, so that |x| is 1")
    normalise: InputNorm | None = Field(None, description="of each sample, as a layer in front of the network; none by default")
    permute_labels: bool = Field(False, description="shuffle the labels among the samples; not those of test samples")
    loss: Literal["mse", "logistic"] = "logistic"
    data_entropy: int | None = Field(None, ge=0, lt=2**63, description="root of the streams of data and labels, "
                                                                      "instead of study.entropy")

    version: ClassVar[int] = 1
    places: ClassVar[tuple[str, ...]] = ()  # options that say where data lie, and so decide no number

    @model_validator(mode="after")
    def _corruptible(self) -> Task:
        if self.corruption and self.corruption.severity and self.image() is None:
            raise ValueError("severities of a corruption are those of images; other inputs have noise by its sigma")
        return self

    def pool(self) -> Pool:
        """The arrays that samples are drawn from; empty for a task that makes its samples.

        Raises
        ------
        StudyError
            If the data lack what the options ask for.
        """
        return {}

    def inputs(self) -> int:
        """Dimension d of the inputs."""
        raise NotImplementedError

    def image(self) -> Image | None:
        """How the inputs make up an image; None where they are none."""
        return None

    def outputs(self) -> int:
        """Numbers in a label: labels are [sample] where this is 1, else [sample, output]."""
        return 1

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        """Raw samples [sample, input] and labels [sample(, output)], +1 or -1 for the logistic loss, from the stream."""
        raise NotImplementedError

    def draw_test(self, pool: Pool, stream: Stream) -> Drawn:
        """Raw test samples and labels for the network that `draw` trains on the samples from the same stream.

        As they stand here, these are samples from the stream "test", for a task that makes its samples.  A task that takes
        them from a finite pool leaves out those that `draw` takes.
        """
        return self.model_copy(update={"samples": self.test_samples}).draw(pool, stream.other("test"))

    def few(self) -> Task:
        """The same with four samples, or as few more as it can have: enough to compile what it needs."""
        return self.model_copy(update={"samples": 4})

    def samples_of(self, pool: Pool, entropy: int, networks: np.ndarray) -> Drawn:
        """Prepared samples and labels, float64, of some networks.

        The stream is (entropy, data, network); what all networks share has a network number of its own.

        Returns
        -------
        X : array [network, sample, input], or [sample, input] where they are shared
        y : array [network, sample(, output)], or [sample(, output)]
        """
        entropy = entropy if self.data_entropy is None else self.data_entropy
        return self._of_each(networks, self.samples, lambda network: self._training(pool, entropy, network)[:2])

    def test_samples_of(self, pool: Pool, entropy: int, networks: np.ndarray, condition: Condition | None = None) -> Drawn:
        """Test samples and labels of some networks, float64, prepared with what was found from their training samples.

        No sample is among those that the network trains on.  Labels are the true ones, also under `permute_labels`.  Under a
        condition the same samples are corrupted; by default as `corruption` says.

        Returns
        -------
        X : array [network, sample, input], or [sample, input] where they are shared
        y : array [network, sample(, output)], or [sample(, output)]

        Raises
        ------
        StudyError
            If the task has no test samples.
        """
        if not self.test_samples:
            raise StudyError("task.test_samples: is 0, so there is nothing to test on")
        entropy = entropy if self.data_entropy is None else self.data_entropy

        def test(network: int) -> Drawn:
            *_, preparation = self._training(pool, entropy, network)
            X, y = self.draw_test(pool, Stream(entropy, "data", network))
            own = self._condition_of("test") if condition is None else condition
            X = preparation(self._seen(X, own, Stream(entropy, "test corruption", network)))
            return normalised_inputs(X, self.normalise, self.image()), y

        return self._of_each(networks, self.test_samples, test)

    def population_of(self, entropy: int, networks: np.ndarray) -> Population:
        """The law of the prepared samples of some networks and of their labels, where its gradient has a closed form.

        Raises
        ------
        StudyError
            If it has none.
        """
        raise StudyError(f'training.gradient = "population": that of task.kind = "{self.kind}" has no closed form')

    def _deviation_of_population(self, **wanted: object) -> float:
        """σ of prepared inputs whose raw ones are N(0, I), where no option gives them, or their labels, another law.

        Parameters
        ----------
        **wanted
            Options of the task at which its law has a closed form, beside those of every task.
        """
        about = 'training.gradient = "population" goes'
        plain = {"permute_inputs": False, "center_samples": False, "whiten": False, "permute_labels": False}
        for key, value in {**wanted, **plain}.items():
            if getattr(self, key) != value:
                raise StudyError(f"{about} with task.{key} = {json.dumps(value)}")
        if self._condition_of("train") != CLEAN:
            raise StudyError(f"{about} without task.corruption of training samples")
        if self.normalise is not None:
            raise StudyError(f"{about} without task.normalise")
        if self.scale == "unit-norm":
            raise StudyError(f'{about} with task.scale = "none" or "unit-rms"')
        return 1.0 if self.scale == "none" else 1 / float(np.sqrt(self.inputs()))

    def sample(self, pool: Pool, entropy: int, network: int) -> Drawn:
        """Prepared samples [sample, input] and labels [sample] of one network."""
        X, y = self.samples_of(pool, entropy, np.array([network]))
        return (X[0], y[0]) if self.fresh else (X, y)

    def _of_each(self, networks: np.ndarray, samples: int, one: Callable[[int], Drawn]) -> Drawn:
        """Samples and labels of each network, or those that all share."""
        if not self.fresh:
            return one(SHARED)
        label = (self.outputs(),) if self.outputs() > 1 else ()
        X, y = np.empty((len(networks), samples, self.inputs())), np.empty((len(networks), samples, *label))
        for i, network in enumerate(networks):
            X[i], y[i] = one(int(network))
        return X, y

    def _training(self, pool: Pool, entropy: int, network: int) -> tuple[np.ndarray, np.ndarray, Preparation]:
        """Prepared samples and labels of one network, and how they were prepared."""
        X, y = self.draw(pool, Stream(entropy, "data", network))
        if self.permute_labels:
            y = y[Stream(entropy, "labels", network).permutation(len(y))]
        X = self._seen(X, self._condition_of("train"), Stream(entropy, "corruption", network))
        X, preparation = prepare(X, self.center_samples, self.center, self.whiten, self.scale)
        return normalised_inputs(X, self.normalise, self.image()), y, preparation

    def _condition_of(self, samples: str) -> Condition:
        corruption = self.corruption
        return corruption.condition if corruption and corruption.of in (samples, "both") else CLEAN

    def _seen(self, X: np.ndarray, condition: Condition, stream: Stream) -> np.ndarray:
        """Raw inputs [sample, input] as they come to be prepared."""
        X = corrupted(X, condition, self.image(), stream)
        return X[:, stream.other("pixels", SHARED).permutation(X.shape[1])] if self.permute_inputs else X


TASKS: Registry[type[Task]] = Registry("task", "mcrace.tasks")


def task(name: str) -> Callable[[type[Task]], type[Task]]:
    """Register a subclass of `Task` under the name that study files use for it (``task.kind``)."""
    return TASKS.add(name)
