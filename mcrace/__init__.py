"""Monte Carlo studies of how neurons race in gradient descent.

Thousands of small ReLU networks are trained from random starts; statistical tests of the theory's predictions read what
was recorded of them.  See the README for the study file and the commands.
"""

__version__ = "0.1.0"

from mcrace.compare import diff
from mcrace.engine import run
from mcrace.errors import McraceError, ResultsError, ShardError, StudyError
from mcrace.observe import observable
from mcrace.predictions import Verdict, prediction, test
from mcrace.repeat import extend, network, replicate, verify
from mcrace.report import plot
from mcrace.results import Results, open_results
from mcrace.study import Study, load_study, parse_study
from mcrace.tasks import Task, task

__all__ = [
    "McraceError",
    "Results",
    "ResultsError",
    "ShardError",
    "Study",
    "StudyError",
    "Task",
    "Verdict",
    "diff",
    "extend",
    "load_study",
    "network",
    "observable",
    "open_results",
    "parse_study",
    "plot",
    "prediction",
    "replicate",
    "run",
    "task",
    "test",
    "verify",
]
