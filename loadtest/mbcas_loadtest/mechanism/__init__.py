"""The mechanism under test: random markets, its properties, an independent solver, alternatives."""
