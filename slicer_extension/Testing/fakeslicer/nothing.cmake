# Nothing: what Slicer does here needs Slicer.
