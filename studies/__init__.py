"""The questions that ship with eesearch: data, without code."""
