"""Where a cell's log rows go live when asked for: one file per program that shows them."""
