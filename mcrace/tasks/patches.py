"""Real images, and large ones: square patches of the two photographs that scikit-learn ships."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.compiled import compiled
from mcrace.errors import StudyError
from mcrace.seeds import Stream
from mcrace.tasks.base import Drawn, Pool, Task, task
from mcrace.tasks.corruption import Image

PHOTOGRAPHS = ("china", "flower")
HEIGHT, WIDTH = 427, 640


@task("patches")
class Patches(Task):
    """Patches of two photographs, china.jpg labelled -1 and flower.jpg +1: size x size pixels in three colours.

    Half of the samples are of each photograph, and an odd one of the first; they are cut at random, all at other positions
    (patches may overlap).  Inputs are in the order row, column, colour, between 0 and 1.  How the photographs are decoded
    is up to pillow; the pool keeps them as they were.
    """

    kind: Literal["patches"] = "patches"
    size: int = Field(32, ge=1, le=HEIGHT, description="width and height of a patch, in pixels")

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _enough_positions(self) -> Patches:
        asked, there = self.samples + self.test_samples, self._positions()
        if asked > 2 * there:
            raise ValueError(f"patches of {self.size} pixels have {2 * there} positions, fewer than the {asked} asked for")
        return self

    def inputs(self) -> int:
        return 3 * self.size**2

    def image(self) -> Image:
        return Image(self.size, self.size, channels=3)

    def pool(self) -> Pool:
        try:
            from sklearn.datasets import load_sample_image
            photographs = {name: load_sample_image(f"{name}.jpg") for name in PHOTOGRAPHS}
        except ImportError:
            raise StudyError("task.kind: 'patches' needs scikit-learn and pillow; install mcrace[full]") from None
        if any(image.shape != (HEIGHT, WIDTH, 3) for image in photographs.values()):
            raise StudyError(f"task.kind: the photographs of this scikit-learn do not have {HEIGHT} x {WIDTH} pixels")
        return {name: np.ascontiguousarray(image, np.uint8) for name, image in photographs.items()}

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        return self._cut(pool, stream, (0, 0), self._halves(self.samples))

    def draw_test(self, pool: Pool, stream: Stream) -> Drawn:
        first, more = self._halves(self.samples), self._halves(self.test_samples)
        return self._cut(pool, stream, first, (first[0] + more[0], first[1] + more[1]))

    @staticmethod
    def _halves(count: int) -> tuple[int, int]:
        return count - count // 2, count // 2

    def _positions(self) -> int:
        return (HEIGHT - self.size + 1) * (WIDTH - self.size + 1)

    def _cut(self, pool: Pool, stream: Stream, first: tuple[int, int], stop: tuple[int, int]) -> Drawn:
        """Patches first ... stop-1 of each photograph, in the random order that the stream gives."""
        orders = stream.choices(self._positions(), 2, max(stop))
        chosen = [order[a:b] for order, a, b in zip(orders, first, stop)]
        X = np.empty((sum(map(len, chosen)), self.inputs()))
        _cut_patches(pool[PHOTOGRAPHS[0]], chosen[0], self.size, X[: len(chosen[0])])
        _cut_patches(pool[PHOTOGRAPHS[1]], chosen[1], self.size, X[len(chosen[0]) :])
        return X, np.repeat([-1.0, 1.0], [len(c) for c in chosen])


@compiled
def _cut_patches(image, positions, size, out):
    columns = image.shape[1] - size + 1
    for n in range(len(positions)):
        top, left = positions[n] // columns, positions[n] % columns
        k = 0
        for i in range(top, top + size):
            for j in range(left, left + size):
                for c in range(3):
                    out[n, k] = image[i, j, c] / 255.0
                    k += 1
