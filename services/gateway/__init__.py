"""The door by which hospitals send: HTTP in, fhir.raw.v1 out."""
