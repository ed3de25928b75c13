"""The drill report as Markdown: what was tried, what came back, how it was proven, how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner import __version__
from runner.execute.runs import Finished
from runner.plan.facts import host_name
from runner.plan.model import Plan
from runner.spec.model import Spec


def drill_markdown(
    spec: Spec, plan: Plan, finished: Finished, facts: Mapping[str, Any]
) -> str:
    """The report of one drill."""
    raise NotImplementedError
