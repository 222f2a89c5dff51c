"""Estimates and the sketches and intervals they stand on."""
