"""Labelling: predictions, alerts, answers and outcomes joined into labelled hours."""
