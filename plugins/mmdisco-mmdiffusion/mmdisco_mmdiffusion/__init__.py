"""MM-Diffusion as a base model of mmdisco: one coupled U-Net for audio and video at once."""

__version__ = "0.1.0"
