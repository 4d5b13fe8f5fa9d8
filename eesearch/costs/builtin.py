"""Importing this module fills the BACKENDS registry with the built-in entries."""

from eesearch.costs import backends, cuda

__all__ = ["backends", "cuda"]
