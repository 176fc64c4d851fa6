"""From a file of rows to the exact tensors that are trained on, without torch or transformers."""
