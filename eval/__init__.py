"""Does negation hold, and was anything lost? Tasks, arms, judges, paired statistics, a report."""
