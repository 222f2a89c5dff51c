"""Who sends, whether the body may come in, and the record it becomes; pure."""
