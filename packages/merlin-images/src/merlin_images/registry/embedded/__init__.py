"""The built-in registry: an OCI registry on a folder, in this process and over HTTP."""
