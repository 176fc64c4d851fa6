"""Exit statuses by which a trainer tells its supervisor how it ended."""

FINISHED = 0  # the adapter is sealed
FAILED = 1  # `death.json` says why
INTERRUPTED = 75  # told to stop; a checkpoint is sealed if any step was made
