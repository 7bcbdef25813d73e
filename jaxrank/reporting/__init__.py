"""Everything that people read: tables, sentences, figures, progress."""
