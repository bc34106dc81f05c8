"""Methods of tuning: what each is told, what it learns by, and the table of those that are installed. Free of torch."""
