"""What a GPU can tell of our speed, with random weights, in one command that needs torch and this repository alone."""
