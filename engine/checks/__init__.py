"""The doctor: small pure checks, each of which says what is wrong, by what it knows it, and what to do."""
