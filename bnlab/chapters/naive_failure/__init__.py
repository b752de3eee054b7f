"""Chapter 3: normalization outside the gradient step."""
