"""MM-Diffusion as a base model of mmdisco: one coupled U-Net for sound and picture at once."""

__version__ = "0.1.0"
