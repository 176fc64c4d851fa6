"""A run as an OpenAI-compatible endpoint on this machine's loopback address."""
