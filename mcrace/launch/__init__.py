"""Launchers: have shards computed by this process, by workers on this machine, by a Dask cluster, or by a batch system."""

from mcrace.launch.dask_cluster import LOCAL_PATIENCE_SECONDS, PATIENCE_SECONDS, connected, cores, drive, local_cluster
from mcrace.launch.inline import Outcome, in_this_process

__all__ = ["LOCAL_PATIENCE_SECONDS", "PATIENCE_SECONDS", "Outcome", "connected", "cores", "drive", "in_this_process",
           "local_cluster"]
