"""Chapter 9: the paper's Figure 1."""
