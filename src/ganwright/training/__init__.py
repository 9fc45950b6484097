"""The loop and what it keeps: checkpoints, moving averages, schedules, the doctor. Recipes are elsewhere."""
