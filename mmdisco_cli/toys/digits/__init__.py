"""Real digits, spoken, written and named: pairs of recordings and images, and classifiers that judge samples."""
