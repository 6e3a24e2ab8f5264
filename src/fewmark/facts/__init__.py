"""Published facts of models and accelerators, and how names are matched to them."""
