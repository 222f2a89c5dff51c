"""Judges: from what was counted to what it is worth and says."""
