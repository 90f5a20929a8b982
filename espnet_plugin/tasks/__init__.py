"""ESPnet's task system: registration, Trainer and Task (L5)."""
