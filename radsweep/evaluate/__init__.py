"""Score frozen encoders by the protocol: features once, then the grid of probes."""
