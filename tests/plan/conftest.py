"""The option that writes the expected plans anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the plans of tests/plan/cases anew; look at the difference before committing",
    )
