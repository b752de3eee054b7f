"""Chapter 11: rival explanations of why Batch Normalization works, each with an experiment and a verdict."""
