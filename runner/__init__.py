"""Holdfast: declarative backup and disaster recovery that proves every restore."""

__version__ = "0.1.0"
