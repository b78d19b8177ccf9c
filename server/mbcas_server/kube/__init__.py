"""The server on Kubernetes: what it reads there, and the objects it keeps."""
