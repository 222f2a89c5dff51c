"""Events in, predictions and alerts out."""
