"""Folds: what one partition of a topic adds to windows of event time, and nothing twice."""
