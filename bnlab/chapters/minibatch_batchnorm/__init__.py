"""Chapter 5: the mini-batch transform."""
