"""Rules that share a market's CPU: the production clearing and its alternatives, one signature."""
