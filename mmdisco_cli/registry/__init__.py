"""What is installed: the registry of built-ins and plugins, kept apart from one another and named when they fail."""
