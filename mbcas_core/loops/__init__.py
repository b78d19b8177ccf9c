"""The fast and the slow loop: from signals to orders."""
