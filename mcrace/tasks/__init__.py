"""Tasks: samples and labels, by name.  A new task is one file here, or an installed plug-in (group ``mcrace.tasks``)."""

from mcrace.tasks.base import TASKS, Task, task
from mcrace.tasks.cifar10 import Cifar10
from mcrace.tasks.digits import Digits
from mcrace.tasks.file import File
from mcrace.tasks.from_file import Files, FromFile
from mcrace.tasks.gaussian import Gaussian
from mcrace.tasks.manifolds import Ellipsoid, Embedding, Manifold, Paraboloid, Sphere, Subspace, SwissRoll, Torus
from mcrace.tasks.patches import Patches
from mcrace.tasks.rotation import Equivariant, Invariant
from mcrace.tasks.teacher import Teacher

__all__ = ["TASKS", "Cifar10", "Digits", "Ellipsoid", "Embedding", "Equivariant", "File", "Files", "FromFile", "Gaussian",
           "Invariant", "Manifold", "Paraboloid", "Patches", "Sphere", "Subspace", "SwissRoll", "Task", "Teacher", "Torus",
           "task"]
