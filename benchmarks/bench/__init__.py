"""What a CPU can tell of our speed beside plain ways to do the same, within a quarter of an hour."""
