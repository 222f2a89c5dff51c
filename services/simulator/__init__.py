"""A hospital to try Vigil on: simulated wards and replay of recorded patients."""
