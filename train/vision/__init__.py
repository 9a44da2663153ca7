"""Training of vision tokenizers: media, losses, discriminator, trainer, recipes."""
