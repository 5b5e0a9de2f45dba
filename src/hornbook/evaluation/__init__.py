"""How good, and how sure: metrics, intervals, paired tests."""
