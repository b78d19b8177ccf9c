"""The market: bids, clearing, prices, and the second clearing that turns targets into orders."""
