"""How good are the pictures: FID, CLIP score, precision and recall, speed."""
