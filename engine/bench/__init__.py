"""One model, asked the same prompts as others, and what that took."""
