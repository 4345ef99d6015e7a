"""What every command stands on: its options, the console, progress, signals, ranks, and files written whole or not at all."""
