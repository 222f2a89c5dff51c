"""Recorded data in, a model bundle out."""
