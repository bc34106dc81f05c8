"""Reading weights of other programs: what every family shares."""
