"""The tasks that `invoke` finds in this checkout: the same as the `holdfast` program's."""

from runner.commands import namespace

__all__ = ["namespace"]
