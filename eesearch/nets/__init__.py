"""Torch modules: splitting, heads, networks with exits; nothing of cost or search."""
