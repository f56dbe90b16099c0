"""From a question to its answer, a file a kind (`compare`, `tune`, `recommend`); `kinds` says which kind a question is."""
