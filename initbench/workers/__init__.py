"""Worker processes: started early, forked, and what they do."""
