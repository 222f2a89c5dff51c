"""What the system knows, with no way to touch the world."""
