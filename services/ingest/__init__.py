"""FHIR as received becomes events in model units, or is refused by name."""
