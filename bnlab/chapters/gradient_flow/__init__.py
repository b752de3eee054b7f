"""Chapter 6: gradient flow."""
