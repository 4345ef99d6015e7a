"""Draw samples and write them."""
