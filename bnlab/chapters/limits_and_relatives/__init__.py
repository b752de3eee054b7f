"""Chapter 12: where Batch Normalization stops working, and the layers that are related to it."""
