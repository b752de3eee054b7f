"""Chapter 13: what goes wrong with Batch Normalization on the job, reproduced, diagnosed and repaired."""
