"""Scaling laws: forms, fits, intervals, sentences; numpy, scipy, polars, never torch or Ray."""
