"""From a question to its answer, a file a kind: a comparison, tuning, a race, merged folders, published figures."""
