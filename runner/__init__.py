"""Holdfast: declarative backup and disaster recovery that proves every restore."""

from runner.lazily import postpone

__version__ = "0.1.0"

postpone(
    "runner.journeys",
    "runner.report.views",
    "runner.execute.guards",
    "runner.execute.runs",
    "runner.execute.settling",
)
