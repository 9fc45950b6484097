"""The image recipes: each is `ImageGAN` with a paper's settings, its citation, and the result the paper
published.

Published results are the papers' own, on their data and with their training length; none was measured here.
"""

from __future__ import annotations

from ganwright.recipes.image_gan import ImageGAN
from ganwright.recipes.image_settings import ImageGANSettings
from ganwright.recipes.registry import RecipeInfo

# Goodfellow et al. 2014 give no learning rates; the paper's maxout discriminator and SGD with momentum are
# replaced by leaky rectified units and Adam. Published: Parzen-window log-likelihood 225 ± 2 on MNIST, 2057 ±
# 26 on TFD.
GAN = ImageGANSettings(
    architecture="mlp",
    loss="non-saturating",  # section 3 of the paper; `minimax` is its equation 1
    depth=2,
    width_g=512,
    width_d=512,
    norm_g="batch",
    norm_d="none",
    dropout_d=0.3,
    init="torch",
)

# Radford et al. 2016, section 4: Adam 2e-4, β₁ 0.5, batch 128, N(0, 0.02²), LeakyReLU 0.2, 100 latents
# (uniform there, normal here). Width 64 and shared fakes are the released code's; figure 1 of the paper has
# 128 maps in G. Published: 82.8 % CIFAR-10 accuracy of a linear SVM on D's features (table 1).
DCGAN = ImageGANSettings(share_fakes=True)

# Mao et al. 2017, equation 9 (0-1 coding), Adam with β₁ 0.5; networks and learning rates are DCGAN's, the
# paper's own network is for 112x112 scenes. Its results are pictures and a stability study; it publishes no
# score.
LSGAN = ImageGANSettings(loss="least-squares", share_fakes=True)

# Arjovsky et al. 2017, algorithm 1: RMSProp 5e-5, clip 0.01, n_critic 5, batch 64; DCGAN networks.
# The paper's results are pictures and curves of the estimated distance; it publishes no score.
WGAN = ImageGANSettings(
    loss="wasserstein",
    penalty="clip",
    clip=0.01,
    d_steps=5,
    optimizer="rmsprop",
    lr_g=5e-5,
    lr_d=5e-5,
)

# Gulrajani et al. 2017, algorithm 1: λ 10, n_critic 5, Adam 1e-4 (0, 0.9), batch 64; the CIFAR-10 ResNet of
# its appendix. Published: Inception score 7.86 ± .07 unsupervised, 8.42 ± .10 supervised on CIFAR-10.
WGAN_GP = ImageGANSettings(
    architecture="resnet",
    latent_dim=128,
    width_g=128,
    width_d=128,
    growth=1,
    pooling="mean",
    norm_d="none",
    init="he",
    loss="wasserstein",
    penalty="gradient",
    penalty_weight=10.0,
    d_steps=5,
    lr_g=1e-4,
    lr_d=1e-4,
    betas_g=(0.0, 0.9),
    betas_d=(0.0, 0.9),
)

# Miyato et al. 2018: hinge loss, Adam 2e-4 (0, 0.9), n_dis 5, batch 64, the CIFAR-10 ResNets of its appendix.
# Published: Inception score 8.22 ± .05, FID 21.7 ± .21 on CIFAR-10 (table 2).
SNGAN = ImageGANSettings(
    architecture="resnet",
    latent_dim=128,
    width_g=256,
    width_d=128,
    growth=1,
    norm_d="none",
    spectral_d=True,
    init="xavier",
    loss="hinge",
    d_steps=5,
    betas_g=(0.0, 0.9),
    betas_d=(0.0, 0.9),
)

# Mirza & Osindero 2014 (classes joined to the latent) and Miyato & Koyama 2018 (projection discriminator) on
# DCGAN networks with R1 (Mescheder et al. 2018), which train in minutes; Odena et al. 2017 is conditioning
# "auxiliary". Published: concatenation, Parzen-window log-likelihood 132 ± 1.8 on MNIST (Mirza & Osindero);
# projection, ResNet on CIFAR-10, Inception score 8.62, FID 17.5; auxiliary, Inception score 8.25 ± .07 on
# CIFAR-10 (Odena et al.).
CGAN = ImageGANSettings(
    conditioning="projection",
    width_g=32,
    width_d=32,
    norm_d="none",
    # With N(0, 0.02²) weights and no norm in D, trials on digits collapsed to one image a class (cause not isolated).
    init="torch",
    penalty="r1",
    penalty_weight=1.0,
    penalty_every=16,
    share_fakes=True,
    lr_g=1e-3,
    lr_d=1e-3,
)

_CIFAR_LENGTH = {
    "resolution": 32,
    "steps": 100_000,
    "batch_size": 64,
    "lr_schedule": "linear",
    "lr_decay_from": 0.0,
}
"""32x32, 100,000 generator steps with learning rates falling to 0, as both papers trained on CIFAR-10."""

RECIPES = [
    RecipeInfo(
        "gan",
        ImageGAN,
        GAN,
        "Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014, arXiv:1406.2661",
        "The original, fully connected: small grey images and teaching; any resolution.",
        {"steps": 20_000, "batch_size": 100},
    ),
    RecipeInfo(
        "dcgan",
        ImageGAN,
        DCGAN,
        "Radford et al., Unsupervised Representation Learning with DCGAN, ICLR 2016, arXiv:1511.06434",
        "The convolutional baseline: a first GAN on any folder of images.",
        {"steps": 20_000, "batch_size": 128},
    ),
    RecipeInfo(
        "lsgan",
        ImageGAN,
        LSGAN,
        "Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017, arXiv:1611.04076",
        "DCGAN with a loss that does not saturate: try it when dcgan's discriminator wins.",
        {"steps": 20_000, "batch_size": 64},
    ),
    RecipeInfo(
        "wgan",
        ImageGAN,
        WGAN,
        "Arjovsky et al., Wasserstein GAN, ICML 2017, arXiv:1701.07875",
        "A critic by weight clipping: slow, for its loss that follows sample quality, and for comparison.",
        {"steps": 50_000, "batch_size": 64},
    ),
    RecipeInfo(
        "wgan-gp",
        ImageGAN,
        WGAN_GP,
        "Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017, arXiv:1704.00028",
        "Stable with almost any network, at the cost of differentiating twice: new architectures.",
        _CIFAR_LENGTH,
    ),
    RecipeInfo(
        "sngan",
        ImageGAN,
        SNGAN,
        "Miyato et al., Spectral Normalization for GANs, ICLR 2018, arXiv:1802.05957",
        "The strong choice here for natural images of 32 to 128 pixels, given a GPU.",
        _CIFAR_LENGTH,
    ),
    RecipeInfo(
        "cgan",
        ImageGAN,
        CGAN,
        "Mirza & Osindero 2014, arXiv:1411.1784; Miyato & Koyama, ICLR 2018, arXiv:1802.05637; "
        "Odena et al., ICML 2017, arXiv:1610.09585",
        "Images of the class you ask for, from class folders; digits within minutes on a CPU.",
        {
            "resolution": 32,
            "steps": 4_000,
            "batch_size": 32,
            "lr_schedule": "linear",
            "lr_decay_from": 0.5,
        },
    ),
]
"""All built-in image recipes."""
