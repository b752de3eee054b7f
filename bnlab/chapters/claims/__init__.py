"""The ledger of claims: each with its source, the experiment that tests it, a rule stated beforehand, and a verdict."""
