"""Execution: one loop over a plan, its journal, and the actions that steps name."""
