"""Choosing placement, heads and thresholds on trained exits: arithmetic on bitsets."""
