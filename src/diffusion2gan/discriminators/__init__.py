"""Discriminators D(x, z, c) and what stabilises their training (Sec. 3.3).

A discriminator is called as `D(x, z, text_embeddings, **added)` with latents and noise (N, C, h, w), text
(N, T, D) and SDXL's added conditions. It returns a list of logit maps (N, 1, h', w').
"""
