"""Actions: what a step's name stands for. `family.verb` is `ACTIONS["verb"]` of that module."""

from __future__ import annotations

import importlib

from runner.execute.actions.base import Action


def action_named(name: str) -> Action:
    """The action of that name. Raises KeyError for one that does not exist."""
    family, _, verb = name.partition(".")
    try:
        module = importlib.import_module(f"runner.execute.actions.{family}")
    except ModuleNotFoundError as error:
        raise KeyError(name) from error
    action: Action = module.ACTIONS[verb]
    return action
