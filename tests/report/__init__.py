"""Inputs that are broken, odd or hostile, and what must come of them."""
