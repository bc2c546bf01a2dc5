"""Forges: where CI jobs come from and runners register, one folder each. `rest` is the edge that they share."""
