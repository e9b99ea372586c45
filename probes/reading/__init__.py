"""From what a user gives to rows, groups and labels: what a probe sees, and what it must say."""
