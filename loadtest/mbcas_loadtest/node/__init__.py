"""The node that a measurement runs on: its containers, their work, and its cgroups."""
