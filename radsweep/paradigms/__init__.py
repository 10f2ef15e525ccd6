"""Ways to learn from x-rays: one module each, found by name."""
