"""Chapter 1: feature scaling."""
