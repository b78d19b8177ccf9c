"""Keeps moves few, safe and within the budget."""
