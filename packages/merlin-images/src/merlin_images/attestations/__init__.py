"""What is said about an image beside it: bills of materials, provenance, signatures.

Each is a manifest of its own in the same repository whose ``subject`` is the image (OCI
distribution-spec, referrers), so that attaching one changes no digest.
"""
