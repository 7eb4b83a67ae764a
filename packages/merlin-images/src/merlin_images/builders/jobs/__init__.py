"""Building images as Kubernetes Jobs.

A Job's Pod goes through steps, each a container of its own: ``fetch`` (our tool, which reads the
bucket), ``build`` (Kaniko or BuildKit, where the model's code may run and nothing secret is in
reach) and ``push`` (our tool, which writes to the registry). The native builder runs nothing of
the model and needs one step. What a Job says is decided by pure functions; `driver` talks to the
cluster.
"""
