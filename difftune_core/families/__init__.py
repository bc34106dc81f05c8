"""Model families: what a base model of each kind is, how it is tuned, drawn from, judged and handed over."""
