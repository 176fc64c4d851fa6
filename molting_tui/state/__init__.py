"""What the screens show, worked out from events: pure, without Textual and without I/O."""
