"""Answering with a model, and proving that an adapter changes its answers."""
