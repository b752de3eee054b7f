"""Chapter 7: inference statistics."""
