"""Numbers that several metrics share."""

Z95 = 1.959964
"""Half-width of a 95 % normal interval, in standard errors."""
