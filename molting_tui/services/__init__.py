"""I/O: calling the engine, following a run, control files. Knows no widgets."""
