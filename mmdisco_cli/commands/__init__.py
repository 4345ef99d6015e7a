"""One thin module a command; none imports torch before it has something to compute."""
