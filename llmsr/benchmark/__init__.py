"""Arms side by side on the same problems, budgets and seeds: runs, measures, statistics, tables."""
