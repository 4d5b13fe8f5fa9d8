"""The search spaces that ship with eesearch: data, without code."""
