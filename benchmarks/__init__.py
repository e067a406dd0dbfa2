"""Measurements: `run.py` makes `docs/performance.md`, `study.py` makes `docs/results.md`."""
