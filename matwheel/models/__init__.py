"""LightningModules, each thin: predictor, conditional generator, latent prior."""
