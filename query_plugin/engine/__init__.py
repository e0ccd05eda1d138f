"""From a query's text to what OpenSearch is asked with, always and in time."""
