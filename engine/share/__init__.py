"""Runs that travel: sealed archives, other programs' histories, other programs' trackers."""
