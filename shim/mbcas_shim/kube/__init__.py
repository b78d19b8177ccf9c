"""What the shim sees of a Kubernetes API server, and does through it."""
