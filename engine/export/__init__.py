"""A run's model as files for other programs: merged weights, GGUF, a model card, an Ollama Modelfile."""
