"""Chapter 4: full whitening."""
