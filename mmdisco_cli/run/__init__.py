"""What every command stands on: its options, the console, progress, signals, ranks, files."""
