"""Tasks: samples and labels, by name.  A new task is one file here, or an installed plug-in (group ``mcrace.tasks``)."""

from mcrace.tasks.base import TASKS, Task, task
from mcrace.tasks.digits import Digits
from mcrace.tasks.gaussian import Gaussian

__all__ = ["TASKS", "Digits", "Gaussian", "Task", "task"]
