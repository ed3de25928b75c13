"""The same commands by `invoke`: `invoke backup --profile prod`."""

from runner.commands import namespace

__all__ = ["namespace"]
