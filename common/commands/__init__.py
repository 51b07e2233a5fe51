"""One module per make target. Nothing imports them."""
