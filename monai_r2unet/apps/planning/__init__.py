"""A bundle for anyone's task: what a data set holds, what to make of it, and the bundle's files."""
