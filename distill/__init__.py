"""From an interaction log to a trained student: data, semantic IDs, models, training, evaluation."""
