"""From signals to needs, and the limits that no learner may pass."""
