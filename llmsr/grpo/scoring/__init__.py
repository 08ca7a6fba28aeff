"""What becomes of one answer in training: its evaluation, its place in the run, its score, its record."""
