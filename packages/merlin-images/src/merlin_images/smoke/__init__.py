"""The smoke test of a finished image: run as its user would, it imports, loads and predicts."""
