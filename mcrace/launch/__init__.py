"""Launchers: have shards computed by this process, by workers on this machine, or by a Dask cluster of one's own."""

from mcrace.launch.dask_cluster import drive, local_cluster
from mcrace.launch.inline import in_this_process

__all__ = ["drive", "in_this_process", "local_cluster"]
