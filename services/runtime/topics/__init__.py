"""The contract of each topic: its file, its schema through time, what a cluster lacks of it."""
