"""The bounce world: balls whose every impact is visible and audible, and detectors that find both again."""
