"""The program: flags, graph, run."""
