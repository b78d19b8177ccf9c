"""Loads on a real Kubernetes node, watched through the kernel's own files."""
