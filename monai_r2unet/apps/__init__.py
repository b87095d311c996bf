"""The programs: command line, worker, viewer, and the paper's study."""
