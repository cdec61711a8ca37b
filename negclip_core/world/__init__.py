"""The drawn world: places, the things in them, how they look, and what is said of them."""
