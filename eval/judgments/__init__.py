"""Where judgments come from: exports of other tools, clicks, a language model, people with a sheet."""
