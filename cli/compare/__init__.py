"""`difftune compare`: several methods and seeds on one data set, through the service."""
