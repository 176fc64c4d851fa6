"""The terminal app and the command line. Knows Textual; never loads torch."""
