"""What all measurements share: blocks in turn, what is claimed of them and guards it, and the lines that tell it."""
