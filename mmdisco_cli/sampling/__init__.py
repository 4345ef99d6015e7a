"""Draw samples, write them and show them."""
