"""What is known of patients: read off the wire, kept as rows of bytes, put in a changelog."""
