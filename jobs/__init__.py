"""Sweeps that come with radsweep: each module ends in ``SWEEP = Sweep(...)``. Copy one to make your own."""
