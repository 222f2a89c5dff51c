"""The command `vigil`, one file per group of commands."""
