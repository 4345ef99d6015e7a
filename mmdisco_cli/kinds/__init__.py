"""The kinds of modalities: how a sample of each is written, read again and shown."""
