"""Join pre-trained single-modality diffusion models into one joint generator."""

__version__ = "0.1.0"
