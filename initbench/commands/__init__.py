"""The command line behind `cli.py`: options, the commands of each kind, what is shown while runs are under way."""
