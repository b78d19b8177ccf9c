"""The demo: real workloads under real quotas, first declared by hand, then by the market."""
