"""The command line, a file per group of commands. `main.py` loads a group only when it is called."""
