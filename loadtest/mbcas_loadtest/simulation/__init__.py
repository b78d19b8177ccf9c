"""Nodes in virtual time: a drawn world, a system that sets its CPU, and what came of it."""
