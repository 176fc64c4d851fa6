"""The inference host: a process of its own that keeps models warm and answers over a private socket."""
