"""Widgets, one a file; they are given state and never fetch anything."""
