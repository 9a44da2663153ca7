"""What the local web pages share: who may ask, and the server."""
