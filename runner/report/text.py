"""What a person reads of an outcome; sentences first, tables where rows are compared."""

from __future__ import annotations

import json
import sys

from runner.report.outcome import Outcome
from runner.secret import SCRUBBER


def show(outcome: Outcome) -> None:
    sys.stdout.write(SCRUBBER.clean(json.dumps(outcome.as_json(), indent=1)) + "\n")
