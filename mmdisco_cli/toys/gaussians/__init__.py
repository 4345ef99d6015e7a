"""The gaussians world: a mixture over scalars whose joint score is known in closed form."""
