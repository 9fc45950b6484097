"""StyleGAN3's generator (Karras et al. 2021, "Alias-free generative adversarial networks") in plain torch."""
