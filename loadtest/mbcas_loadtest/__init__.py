"""Workloads, models, benchmarks and the demo."""
