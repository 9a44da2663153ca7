"""Sound and speech of items: what is measured, who says what was spoken, and when."""
