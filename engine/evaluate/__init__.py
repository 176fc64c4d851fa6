"""Answers, grades and what they add up to: sheets, imports, statistics, comparison. Only `answers` needs a model."""
