"""Figures of reports: each file one kind, a function that takes numbers and returns a matplotlib figure."""
