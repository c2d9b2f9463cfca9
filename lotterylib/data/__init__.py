"""Where texts, weights and labelled attention maps come from."""
