"""Other people's checkpoints, read without running anything that is in them, and ours written for other people."""
