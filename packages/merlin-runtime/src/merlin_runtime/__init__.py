"""What runs inside a Merlin image: the model server. Runs on Python 3.9 and later."""

__version__ = "0.1.0"
