"""A bundle for any task: survey a data set, plan the training, and write the bundle."""
