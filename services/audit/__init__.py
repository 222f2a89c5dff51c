"""Every record becomes a ledger row that can be proved."""
