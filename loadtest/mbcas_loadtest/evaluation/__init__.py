"""The scoreboard: who wastes and who throttles how much, with intervals, on one page."""
