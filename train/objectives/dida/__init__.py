"""DiDA: an autoregressive decoder learns to draw all codes of a picture at once, in a few steps (Emu3.5, arXiv
2510.26583, section 4.3; the discrete flow is that of URSA, arXiv 2510.24717)."""
