"""Data, losses, plans and the one loop that trains; the bank, the tables and the fits."""
