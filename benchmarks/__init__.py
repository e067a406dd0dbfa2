"""Measurements of speed and memory; `run.py` makes `docs/performance.md`."""
