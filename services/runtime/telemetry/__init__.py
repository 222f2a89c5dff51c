"""What a process says about itself: JSON logs on stderr, Prometheus metrics, health over HTTP."""
