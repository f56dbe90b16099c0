"""What is there for speed alone; each file can be deleted by one line elsewhere."""
