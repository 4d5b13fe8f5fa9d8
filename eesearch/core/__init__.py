"""Values and arithmetic; imports nothing of eesearch above it, and no torch."""
