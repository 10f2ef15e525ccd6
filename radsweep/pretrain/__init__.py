"""Spend one budget on one cell."""
