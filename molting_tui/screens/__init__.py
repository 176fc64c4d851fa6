"""One screen a file; they put state, services and widgets together."""
