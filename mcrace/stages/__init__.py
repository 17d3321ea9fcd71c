"""Stages by name: what is done with the networks of a shard after their training, such as training parts of them again."""

from mcrace.stages import layer_tickets, tickets
from mcrace.stages.base import STAGES, Stage, Trained, stage

__all__ = ["STAGES", "Stage", "Trained", "layer_tickets", "stage", "tickets"]
