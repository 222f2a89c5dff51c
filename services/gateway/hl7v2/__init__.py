"""HL7 v2 messages become FHIR at the door, so that all behind it reads one language; pure."""
