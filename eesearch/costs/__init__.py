"""Multiply-adds and latency of a split network, per prefix and head, on one device."""
