"""The market server: the shell around the core."""
