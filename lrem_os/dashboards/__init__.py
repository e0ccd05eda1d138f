"""OpenSearch Dashboards: what is installed there, made from typed Python."""
