"""Charts and numbers as pages show them, for reports and for the dashboard: plain Python, without torch."""
