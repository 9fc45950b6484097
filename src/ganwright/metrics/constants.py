"""Numbers that several metrics share."""

Z95 = 1.959964
"""Half-width of a 95 % normal interval, in standard errors."""
FEW = 10_000
"""Below this many samples the bias of FD and IS is worth a warning."""
