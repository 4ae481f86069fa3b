"""How a worker process lives: its command line, signals, deadline, scratch folder and cores."""
