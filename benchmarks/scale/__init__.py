"""Memory and time of a job as its data set grows."""
