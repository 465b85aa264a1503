"""What latent experts are worth: their accuracy beside other ways of using the same members, their
controls, and what they cost in time and memory."""
