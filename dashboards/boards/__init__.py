"""The boards, one a file; which question each answers stands in docs/dashboards.md."""
