"""Reading DiTs of other programs."""
