"""What a report says in words: whether guidance aligned, what that cost, and signs that something went wrong."""
