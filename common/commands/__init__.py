"""One module per target of make. No other room imports them."""
