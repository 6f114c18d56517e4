"""The steps of an evaluation: read, predict, count, and show."""
