"""Grafana's boards as code, and the JSON that `vigil dashboards build` writes beside it."""
