"""Further uses of a trained model: codes and losses for another one, going on with new data."""
