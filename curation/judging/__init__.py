"""Narrated videos judged by models: what is said, who is seen, and whether both belong together."""
