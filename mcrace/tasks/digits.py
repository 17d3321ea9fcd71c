"""Real images: the handwritten digits that scikit-learn ships (8 x 8 pixels, 1,797 images)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from mcrace.errors import StudyError
from mcrace.tasks.base import Pool, task
from mcrace.tasks.corruption import Image
from mcrace.tasks.from_pool import FromPool


@task("digits")
class Digits(FromPool):
    """Two classes of digits, the second labelled +1; samples are drawn without replacement."""

    kind: Literal["digits"] = "digits"
    classes: tuple[int, int] = Field(description="the two digits to tell apart")

    version: ClassVar[int] = 1

    @field_validator("classes")
    @classmethod
    def _two_digits(cls, classes: tuple[int, int]) -> tuple[int, int]:
        if classes[0] == classes[1]:
            raise ValueError("the two classes are the same")
        if lacking := [c for c in classes if not 0 <= c <= 9]:
            raise ValueError(f"the digits have classes 0 to 9, not {', '.join(map(str, lacking))}")
        return classes

    def inputs(self) -> int:
        return 64

    def image(self) -> Image:
        return Image(8, 8, white=16.0)

    def pool(self) -> Pool:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise StudyError("task.kind: 'digits' needs scikit-learn; install mcrace[full]") from None
        data = load_digits()
        chosen = np.isin(data.target, self.classes)
        self.check_size(chosen.sum(), f"classes {self.classes[0]} and {self.classes[1]} have {{}} images together")
        return {"X": np.ascontiguousarray(data.data[chosen], float), "y": self.labels(data.target[chosen] == self.classes[1])}
