"""Training: the supervisor that never imports torch, and the trainer it watches over."""
