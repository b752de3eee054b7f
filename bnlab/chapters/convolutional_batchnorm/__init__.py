"""Chapter 8: convolutional Batch Normalization."""
