"""Inside attention: hearing and changing queries, keys, values, patterns and heads."""
