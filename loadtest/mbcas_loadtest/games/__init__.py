"""Repeated games: an attacker plays a node's market for many rounds, against truthful play."""
