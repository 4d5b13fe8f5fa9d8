"""Policy arithmetic against the array API: criteria, routing, expected cost, evaluation."""
