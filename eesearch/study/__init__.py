"""The question (study file), the space, and what turns a design into a front."""
