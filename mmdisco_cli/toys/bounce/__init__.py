"""The bounce world: balls whose every impact is seen and heard, with detectors that find both again."""
