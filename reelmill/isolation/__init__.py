"""The untrusted child: the process in which hostile bytes are decoded, and what it and its parent say."""
