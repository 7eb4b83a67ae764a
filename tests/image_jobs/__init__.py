"""Builds that run as Kubernetes Jobs: what the Jobs say, and how they are carried to their end."""
