"""Monitoring: drift, fairness and performance on event-time windows, by Faust."""
