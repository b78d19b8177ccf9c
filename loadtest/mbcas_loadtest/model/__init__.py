"""A node that is computed instead of measured, for machines without writable cgroups."""
