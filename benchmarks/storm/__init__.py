"""Random faults against a whole cluster, and a look at every row and object afterwards."""
