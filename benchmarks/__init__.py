"""Benchmarks: run from the repository root as `python -m benchmarks.NAME`; none of this is in the wheel."""
