"""The command line: options, one file a command, what is printed, Ctrl-C."""
