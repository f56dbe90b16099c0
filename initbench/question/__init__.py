"""What is asked: the configuration and its file, the names there are, and the jobs that follow from it."""
