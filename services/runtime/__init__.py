"""The doors to shared outside systems."""
