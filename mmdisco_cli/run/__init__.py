"""What all commands use: their options, the console, progress, signals, ranks and files."""
