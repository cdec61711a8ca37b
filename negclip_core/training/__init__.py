"""Fine-tuning a CLIP text tower on captions that say what is absent, with the image tower frozen."""
