"""Sweeps that come with radsweep; copy one to make your own.

Each module ends in ``SWEEP = Sweep(...)``.
"""
