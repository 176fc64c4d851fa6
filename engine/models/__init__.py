"""Models: getting them, judging them before anything is loaded, loading them."""
