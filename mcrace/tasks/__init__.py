"""Tasks: samples and labels, by name.  A new task is one file here, or an installed plug-in (group ``mcrace.tasks``)."""

from mcrace.tasks.base import TASKS, Task, task
from mcrace.tasks.digits import Digits
from mcrace.tasks.gaussian import Gaussian
from mcrace.tasks.patches import Patches
from mcrace.tasks.teacher import Teacher

__all__ = ["TASKS", "Digits", "Gaussian", "Patches", "Task", "Teacher", "task"]
