"""What an API server answers: a table of facts that our code relies on.

They hold for the fake one and, with ``KUBECONFIG`` set, for a real one: then the same tests run
there, in namespaces of their own. A fact of newer servers names the first that has it.
"""
