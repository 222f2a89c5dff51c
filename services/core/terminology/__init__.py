"""What codes and units mean: parsed from the tables of `schemas/terminology`, and looked up."""
