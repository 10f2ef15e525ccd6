"""Downstream questions that an encoder is judged by: one module each, found by name."""
