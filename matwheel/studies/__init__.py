"""Studies: many runs of the wheel from one file, one table, and what can be concluded from it."""
