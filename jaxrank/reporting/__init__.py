"""Human-readable output: tables, sentences, figures and progress."""
