"""Placement rules of the literature, computed from tables; no torch."""
