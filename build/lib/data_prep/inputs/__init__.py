"""Listings, copies among them, and the files behind them."""
