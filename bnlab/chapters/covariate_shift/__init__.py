"""Chapter 2: internal covariate shift."""
