"""Vigil: a watch over clinical models at work."""
