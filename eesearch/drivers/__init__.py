"""Outer search: who proposes designs, and how trials are stored and resumed."""
