"""What the app and the engine share: types, files and their rules. Imports nothing else of ours."""
