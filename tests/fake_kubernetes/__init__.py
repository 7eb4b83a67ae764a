"""A Kubernetes API server for tests, with a Job controller and a kubelet that follow a script.

It keeps the semantics that callers of Kubernetes depend on, not only the shapes of its JSON:

==========================  ==================================================================
``statuses``                the errors of the API as ``Status`` objects
``resources``               the kinds that are served, and where; one line adds a custom resource
``schemas``                 the published OpenAPI schemas: unknown fields, types, merge keys
``bodies``                  what a caller sent, as an object
``validation``, ``rules``   what the API server refuses beyond its schema
``pod_rules``               the same for what stands in a Pod
``defaults``                what it fills in
``storage``                 objects, one counter of versions, a window of history
``patches``, ``apply``      the three patch formats; server-side apply with owned fields
``selectors``               label and field selectors
``api``, ``lists``          verbs on objects: conflicts, dry runs, deletion; pages and watches
``access``                  tokens and what each may do
``faults``                  what is to go wrong, and when
``server``                  HTTP
``conditions``, ``events``  what controllers say of an object
``garbage``, ``jobs``       the controllers of dependents and of Jobs
``kubelet``, ``volumes``    the node that runs Pods, and the files it mounts
``outcomes``                what can happen to a container or a Pod
``cluster``                 everything together: what a test uses
==========================  ==================================================================

Time stands still until a test calls ``FakeCluster.advance``, and no controller acts until a test
calls ``settle`` or enters ``acting``. ``tests/kubernetes_facts`` holds what the server answers
and runs unchanged against a real cluster.
"""

from tests.fake_kubernetes.cluster import FakeCluster

__all__ = ["FakeCluster"]
