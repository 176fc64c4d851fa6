"""The engine: everything that works (data, models, training, inference) and nothing that draws."""
