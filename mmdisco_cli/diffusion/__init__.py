"""The mathematics of joint diffusion: schedules, eq. (6), guidance, coupling, samplers. No input, no output."""
