"""Chapter 10: accelerating BN networks."""
