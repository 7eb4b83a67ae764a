"""Build contexts: all that a Dockerfile needs, in one folder, fetched before any user code runs."""
