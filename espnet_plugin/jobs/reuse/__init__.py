"""Further uses of a trained model: codes for a student, going on with new data."""
