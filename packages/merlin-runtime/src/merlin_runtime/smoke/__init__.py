"""The smoke test of an image from inside: import, load, predict an example."""
