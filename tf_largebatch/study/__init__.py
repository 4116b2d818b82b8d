"""Fair comparisons: equal tuning budgets, many seeds, medians, a report."""
